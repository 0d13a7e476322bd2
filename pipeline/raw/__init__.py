"""Raw records: what each exchange writes, and how a block of lines becomes columns.

One small adapter per exchange says where the fields of a trade stand. `template` reads blocks of
lines that share one layout as columns; `lines` reads whatever is left, one line at a time, by the
same adapters. Both accept the same lines and give the same values, so it never matters which of
the two a line happened to take.
"""
