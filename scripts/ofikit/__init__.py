"""Parts of the report on order-flow imbalance; `scripts/ofi_report.py` is the command."""
