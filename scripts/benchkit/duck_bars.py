"""The peer: DuckDB reads a day of OKX trades and writes one-minute bars with their delta.

Usage: duck_bars.py TRADES_JSONL CONTRACT_SIZE OUT_JSONL
"""

from __future__ import annotations

import sys

import duckdb

QUERY = """
copy (
    select
        ts // 60000 * 60000 as start_ms,
        arg_min(px, "tradeId") as open,
        max(px) as high,
        min(px) as low,
        arg_max(px, "tradeId") as close,
        sum(sz) * $contract as volume,
        sum(px * sz) * $contract as notional,
        count(*) as trades,
        sum(if(side = 'buy', px * sz, -px * sz)) * $contract as delta
    from read_json(
        $source,
        format = 'newline_delimited',
        columns = {"tradeId": 'BIGINT', px: 'DOUBLE', sz: 'DOUBLE', side: 'VARCHAR', ts: 'BIGINT'}
    )
    group by start_ms
    order by start_ms
) to '{target}' (format json)
"""


def main() -> None:
    """Run the query with DuckDB's default threads and memory."""
    source, contract, target = sys.argv[1:]
    query = QUERY.replace("{target}", target.replace("'", "''"))
    duckdb.execute(query, {"source": source, "contract": float(contract)})


if __name__ == "__main__":
    main()
