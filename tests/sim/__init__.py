"""Tests of the simulated market: what it writes is judged by plain loops."""
