"""What is inside a page, read without the code that wrote it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

_DAY = re.compile(r'<script type="text/plain" id="day-(\d{4}-\d\d-\d\d)">([^<]*)</script>')
_HEAD = re.compile(r'<script type="application/json" id="head">([^<]*)</script>')


def head_of(page: Path) -> dict[str, Any]:
    """What the page knows before it unpacks a day."""
    match = _HEAD.search(page.read_text(encoding="utf-8"))
    assert match is not None
    found: dict[str, Any] = json.loads(match[1])
    return found


def days_of(page: Path) -> dict[str, dict[str, Any]]:
    """The days of a page, their columns spelt out."""
    found = {}
    for name, packed in _DAY.findall(page.read_text(encoding="utf-8")):
        day = json.loads(gzip.decompress(base64.b64decode(packed)))
        for columns in day["layers"].values():
            for column, content in columns.items():
                columns[column] = spelt_out(content)
        found[name] = day
    return found


def spelt_out(column: dict[str, Any]) -> list[Any]:
    """The values of a packed column."""
    kind = next(key for key in "fjnsd" if key in column)
    if kind in "fj":
        values: list[Any] = column[kind]
        return values
    if kind == "n":
        return [None] * column["n"]
    if kind == "s":
        return [None if at is None else column["s"][at] for at in column["v"]]
    total, found = 0, []
    for step in column["d"]:
        total += step or 0
        found.append(None if step is None else total / 10 ** column["k"])
    return found
