"""Files, locks, states and feeds, one module at a time."""
