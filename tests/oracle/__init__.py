"""A second opinion on the first three stages, in plain Python.

Nothing here imports the product or a numeric library: raw lines are decoded
with `json`, sums are exact decimals, and every loop goes over one trade at a
time. It is slow and meant to be read next to the design pages.
"""
