"""The two ways of reading raw lines, held to each other."""
