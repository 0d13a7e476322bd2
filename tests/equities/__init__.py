"""The equities room against hand cases and plain-Python oracles."""
