"""The report page: its numbers against the layers, and what a browser makes of it."""
