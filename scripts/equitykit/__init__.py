"""A simulated equity market with known routes of its managers, and what to make of guesses."""
