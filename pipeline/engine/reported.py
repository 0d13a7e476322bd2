"""Up to where the matches of rules have been reported: a small file beside the state."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pipeline.engine import disk


class Reported(msgspec.Struct):
    """The `timestamp_utc` of the last row that was looked at."""

    until: str = ""


def path_of(state: Path) -> Path:
    """Where it stands for a state file."""
    return state.with_name(state.name.removesuffix(".state.json") + ".reported.json")


def load(path: Path) -> Reported:
    """What was saved; nothing reported yet if there is none or it is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Reported)
    except (FileNotFoundError, msgspec.DecodeError):
        return Reported()


def save(path: Path, reported: Reported) -> None:
    """Make it durable."""
    temporary = path.with_name(path.name + ".tmp")
    disk.write_whole(temporary, msgspec.json.encode(reported) + b"\n")
    disk.replace(temporary, path)
    disk.sync_dir(path.parent)
