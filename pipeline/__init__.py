"""flowvault: raw exchange trades and books in, proven order-flow layers out.

The package is a restartable batch pipeline. `pipeline.stages` holds the calculations, one small
file each; `pipeline.engine` holds everything that touches a file; `pipeline.raw` knows the record
formats of the exchanges; `pipeline.cli` is the `flowvault` command; `pipeline.frames` is the door
for Python: `from pipeline import Vault, analyze`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.errors import FlowvaultError as FlowvaultError
    from pipeline.frames.analyze import analyze as analyze
    from pipeline.frames.vault import Vault as Vault

__version__ = "0.1.0"

_DOOR = {
    "Vault": "pipeline.frames.vault",
    "analyze": "pipeline.frames.analyze",
    "FlowvaultError": "pipeline.errors",
}
"""What the package gives to Python, and where it is; loaded when asked for."""


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(import_module(_DOOR[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*globals(), *_DOOR))
