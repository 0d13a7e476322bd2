"""The peer of imports: DuckDB reads a table of trades and says what is in it.

Usage: duck_csv.py CSV

Prints count, least and greatest price, least and greatest time.
"""

from __future__ import annotations

import json
import sys

import duckdb

QUERY = "select count(*), min(price), max(price), min(time), max(time) from read_csv($file)"


def main() -> None:
    """Run the query with DuckDB's default threads and memory."""
    row = duckdb.execute(QUERY, {"file": sys.argv[1]}).fetchone()
    print(json.dumps(row))


if __name__ == "__main__":
    main()
