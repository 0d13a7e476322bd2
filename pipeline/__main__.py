"""`python -m pipeline` is the `flowvault` command."""

from __future__ import annotations

from pipeline.cli.main import main

if __name__ == "__main__":
    main()
