"""US equities: who may stand behind off-exchange volume, from published tables. Pure calculations.

Frames in, frames out: no files, no clock, no randomness. Rows come in a stated order and their
values do not depend on the order of the input, on threads or on which other symbols are there
(the mapping excepted, which ranks all symbols of a quarter together).

Everything about institutions is statistical association, not identification. A venue has many
subscribers, no side is published, and a 13F shows net long positions at the end of a quarter.
"""

NOTICE = "statistical association, not identification"
"""What every table of institutions says of itself."""
