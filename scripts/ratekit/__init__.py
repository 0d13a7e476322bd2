"""What scripts/base_rates.py is made of."""
