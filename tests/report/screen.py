"""A page in a browser: what it draws, what is written on it, and where things lie."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from .browser import Page

STEPS = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800}
SHOWN = "flowvault.chart.series"
Day = dict[str, Any]


def second_of(text: str) -> int:
    """A row's time in whole seconds since 1970."""
    return int(datetime.fromisoformat(text).timestamp())


def drawn(page: Page, series: str) -> list[Day]:
    """The data of a series, as the chart library holds it."""
    found: list[Day] = page.run(f"{SHOWN}[{json.dumps(series)}].data()")
    return found


def press(page: Page, selector: str) -> None:
    """Click in the middle of an element."""
    box = page.run(
        f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
        f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
    )
    page.click(*box)


def text_of(page: Page, selector: str) -> str:
    """What is written in an element."""
    found: str = page.run(f"document.querySelector({json.dumps(selector)}).innerText")
    return found


def place_of(page: Page, slot: str, value: str) -> tuple[float, float]:
    """Where a bar and a price lie on the screen."""
    x, y = page.run(
        "(({left, top}) => [left + flowvault.chart.overlay.x(" + slot + "), "
        "top + flowvault.chart.overlay.y(" + value + ")])"
        "(document.getElementById('chart').getBoundingClientRect())"
    )
    return x, y


def rows_of(days: dict[str, Day], layer: str) -> list[Day]:
    """The rows of a layer over all days, with their times in seconds."""
    found = []
    for name, day in days.items():
        midnight = second_of(f"{name}T00:00:00Z")
        columns = day["layers"].get(layer, {"at": []})
        for i, at in enumerate(columns["at"]):
            found.append({key: values[i] for key, values in columns.items()})
            found[-1]["at"] = midnight + at / 1000
    return found
