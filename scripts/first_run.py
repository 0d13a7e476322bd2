"""Bring a vault up to date; an empty one is filled with the simulated demo market first."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

FLOWVAULT = (sys.executable, "-m", "pipeline")
DEMO = "BTC-USDT-SWAP"


def main() -> int:
    """Run the demo if there is no raw data, then every stage; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vault", type=Path, default=Path("vault"))
    vault: Path = parser.parse_args().vault
    base = [*FLOWVAULT, "--vault", str(vault)]
    is_empty = not any((vault / "raw").glob("*/*/*/*.jsonl*"))
    if is_empty:
        print(f"{vault / 'raw'} is empty: writing a SIMULATED market to look at", flush=True)
        status = subprocess.run([*base, "demo"], check=False).returncode  # noqa: S603
        if status:
            return status
        print(flush=True)
    status = subprocess.run([*base, "run", "--all"], check=False).returncode  # noqa: S603
    if status or not is_empty:
        return status
    page = vault / "report.html"
    for show in (
        ["tail", "volume", "-i", DEMO, "--exchange", "sim", "-n", "2"],
        ["report", "-i", DEMO, "--exchange", "sim", "-o", str(page)],
    ):
        print("\n$ flowvault " + " ".join(show), flush=True)
        status = status or subprocess.run([*base, *show], check=False).returncode  # noqa: S603
    print(f"open it in a browser: {page.resolve().as_uri()}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
