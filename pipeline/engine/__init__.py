"""Everything that touches a file, a lock or a clock.

Reading raw bytes on from where the last run stopped, and committing rows and cursor together.
"""
