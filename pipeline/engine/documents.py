"""The files of a JSON layer, a document each: which are committed, and of which day each is."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch

from pipeline.layers import Layer

_DAY_AND_SUFFIX = len("2024-03-05.json")
_DAY = len("2024-03-05")


def documents_in(outputs: Mapping[str, int], layer: Layer) -> dict[str, int]:
    """A layer's documents among the files that a state lists: by name, in order, their bytes."""
    named = {path.rpartition("/")[2]: length for path, length in outputs.items()}
    return {name: named[name] for name in sorted(named) if fnmatch(name, layer.file)}


def day_of_document(name: str) -> str:
    """The day in a document's name."""
    return name[-_DAY_AND_SUFFIX:][:_DAY]
