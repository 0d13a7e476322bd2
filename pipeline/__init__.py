"""flowvault: raw exchange trades and books in, proven order-flow layers out.

The package is a restartable batch pipeline. `pipeline.stages` holds the calculations, one small
file each; `pipeline.engine` holds everything that touches a file; `pipeline.raw` knows the record
formats of the exchanges; `pipeline.cli` is the `flowvault` command.
"""

from __future__ import annotations

__version__ = "0.1.0"
