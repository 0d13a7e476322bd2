"""Parameters of which a named set may be chosen: what a table says itself wins over the set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

BY_PROFILE: Any = None
"""The default of a parameter that the profile decides."""

Presets = Mapping[str, Mapping[str, float | bool]]
"""By profile what the parameters it decides are."""


def settle(params: msgspec.Struct, presets: Presets, profile: str) -> None:
    """Give the parameters that were left open what the profile says."""
    for name, value in presets[profile].items():
        if getattr(params, name) is None:
            msgspec.structs.force_setattr(params, name, value)


def check_numbers(params: msgspec.Struct) -> None:
    """Refuse numbers that are no limits.

    Raises:
        ValueError: names the first that is not finite.
    """
    for name in params.__struct_fields__:
        value = getattr(params, name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, float) and not math.isfinite(each):
                raise ValueError(f"{name} must be a finite number, not {each}")
