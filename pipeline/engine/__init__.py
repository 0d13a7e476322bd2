"""Everything that touches a file, a lock or a clock: reading raw bytes from where the last run
stopped, and committing rows and cursor together."""
