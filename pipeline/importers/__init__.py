"""Archives as exchanges and vendors publish them, and how their rows become raw lines.

`binance`, `okx`, `tardis` and `mapped` declare what archives look like, `records` what a line of
each exchange looks like. `recognise` finds out what an archive is. `convert` turns blocks of rows
into lines, and `careful` has the last word on rows that it leaves. Nothing here writes a file or
knows a day file: that is `pipeline.engine.importing`.
"""
