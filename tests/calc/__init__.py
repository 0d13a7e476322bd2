"""Exact numbers, settings and the sums shared by stages."""
