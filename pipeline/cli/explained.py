"""What `flowvault explain` says to people: of many places only the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.cli.moment import stamp_of

if TYPE_CHECKING:
    from pipeline.engine.explain import Explanation, Source, Why
    from pipeline.engine.rawlines import RawLines
    from pipeline.engine.spans import Spans
    from pipeline.engine.tablesources import TableSource
    from pipeline.instrument import Instrument

_SHOWN = 3
_VALUES = 6
"""So many values of a list are shown."""


def as_text(told: Explanation, instrument: Instrument) -> str:
    """A row, and where it comes from."""
    lines = [f"{told.layer} of {instrument.key}"]
    lines += [f"  {_row(row)}" for row in told.rows[:_SHOWN]]
    lines += _more(len(told.rows), "row")
    lines += ["", _summary(told)]
    shown: set[str] = set()
    for source in told.sources:
        lines += _source(source, is_new=source.stage not in shown)
        shown.add(source.stage)
    for raw in told.raw:
        lines += ["", f"raw {raw.kind}  {_times(raw.times)}  {_counted(raw.lines, 'line')}"]
        # the first of many, and the last, which is nearest to the row
        chosen = raw.files if len(raw.files) <= _SHOWN else [*raw.files[:2], raw.files[-1]]
        lines += [_raw(each) for each in chosen]
        lines += _more(len(raw.files), "file")
        lines += [f"  {path} is gone; it had been read" for path in raw.gone]
        lines += _reasons(raw.why)
    return "\n".join(lines)


def table_as_text(told: list[TableSource]) -> str:
    """A market-wide table, and what it was made from."""
    lines = [f"{told[0].name}: made as a whole, from all rows of what it reads"]
    for source in told:
        made = "of stage" if source.kind == "layer" else "table" if source.kind == "table" else ""
        head = f"  {made} {source.made_by}, version {source.version}" if made else "  feed"
        lines += ["", f"{source.name}  {_count(source.rows, 'row')}"]
        lines.append(f"{head}{_settings(source.parameters)}")
        for file in source.files[:_SHOWN]:
            lines.append(f"  {file.path} {_count(file.rows, 'row')} blake2b {file.blake2b}")
        lines += _more(len(source.files), "file")
        for raw in source.raw[:_SHOWN]:
            what = f"{_count(raw.lines, 'line')}, {_count(raw.rows, 'row')}, {raw.bad:,} bad"
            gone = "" if raw.is_there else "; it is gone"
            lines.append(f"  {raw.path} {what} blake2b {raw.blake2b}{gone}")
        lines += _more(len(source.raw), "raw file")
        if source.instruments:
            lines.append(f"  of {_some(source.instruments)}; next: {_next(source)}")
        lines += [f"  from {', '.join(source.reads)}"] if source.reads else []
        if source.changed:
            lines.append(f"  changed since: {', '.join(source.changed)}")
    return "\n".join(lines)


def _next(source: TableSource) -> str:
    exchange, market, inst_id = source.instruments[0].split("/")
    where = f"-i {inst_id} --exchange {exchange} --market {market}"
    return f"flowvault explain {where} --layer {source.name} --at TIME"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _row(row: dict[str, Any]) -> str:
    return msgspec.json.encode({name: _shortened(value) for name, value in row.items()}).decode()


def _shortened(value: Any) -> Any:
    """A value whose lists say how many there are more."""
    if isinstance(value, dict):
        return {name: _shortened(each) for name, each in value.items()}
    if not isinstance(value, list):
        return value
    more = [f"… {len(value) - _VALUES:,} more"] if len(value) > _VALUES else []
    return [_shortened(each) for each in value[:_VALUES]] + more


def _summary(told: Explanation) -> str:
    """How much there is."""
    feeds = [
        f"{'whole files' if raw.lines is None else _count(raw.lines, 'line')} of {raw.kind}"
        for raw in told.raw
    ]
    above = len(told.sources) - 1
    layers = f"rows of {_count(above, 'layer')} and " if above else ""
    return f"from {layers}raw lines: {', '.join(feeds)}"


def _source(source: Source, *, is_new: bool) -> list[str]:
    settings = _settings(source.parameters) if is_new else ", as above"
    lines = [
        "",
        f"{source.layer}  {_times(source.times)}  {_counted(source.rows, 'row')}",
        f"  stage {source.stage}, version {source.version}, epoch {source.epoch}{settings}",
    ]
    for file in source.files[:_SHOWN]:
        files = f" of {file.files} files" if file.files > 1 else ""
        where = f"  {file.path}{files} {file.unit} {_ranges(file.ranges)}"
        lines.append(where + _digest(file.sha256))
    lines += _more(len(source.files), "file")
    lines += [f"  went on without {name}" for name in source.given_up]
    return lines + _reasons(source.why)


def _settings(parameters: dict[str, Any]) -> str:
    told = (f"{name} {_json(value)}" for name, value in parameters.items())
    return f"; {', '.join(told)}" if parameters else ""


def _json(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _raw(part: RawLines) -> str:
    unpacked = "" if part.path.endswith(".jsonl") else "decompressed "
    crc = f" crc32 {part.crc32}" if part.crc32 else ""
    return f"  {part.path} {unpacked}bytes {_ranges(part.ranges)}{crc}{_digest(part.sha256)}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _digest(sha256: str | None) -> str:
    return f" sha256 {sha256}" if sha256 else ""


def _counted(number: int | None, what: str) -> str:
    return f"all {what}s of that time" if number is None else _count(number, what)


def _reasons(why: list[Why]) -> list[str]:
    """For which layers, those that look equally far together."""
    by_reach: dict[tuple[str, str], list[str]] = {}
    for each in why:
        by_reach.setdefault((each.reach, each.note), []).append(each.layer)
    return [
        f"  for {', '.join(layers)}: {reach}{f'; {note}' if note else ''}"
        for (reach, note), layers in by_reach.items()
    ]


def _more(count: int, what: str) -> list[str]:
    return [f"  … and {_count(count - _SHOWN, what)} more"] if count > _SHOWN else []


def _ranges(ranges: Spans) -> str:
    shown = ", ".join(f"[{low}, {high})" for low, high in ranges[:_SHOWN])
    more = len(ranges) - _SHOWN
    return (
        f"{shown} … and {more} more, the last [{ranges[-1][0]}, {ranges[-1][1]})"
        if more > 0
        else shown
    )


def _times(times: Spans) -> str:
    """From the first to the last, whole seconds."""
    if not times:
        return ""
    more = f" in {len(times)} pieces" if len(times) > 1 else ""
    start = stamp_of(times[0][0]) if times[0][0] else "the beginning"
    return f"{start} to {stamp_of(times[-1][1])}{more}"
