"""Each stage against tables worked by hand, and its own laws."""
