"""Python's door: a vault's layers as frames, and every stage over frames one already has."""
