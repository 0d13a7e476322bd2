"""Parts of the benchmark; `scripts/bench.py` is the command."""
