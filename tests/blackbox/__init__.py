"""Tests that know the product only by its command line and its files."""
