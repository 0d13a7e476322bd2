"""`flowvault gc`: delete raw files that every stage has read, and what killed runs left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pipeline.cli.choose import chooser, instrument_options, json_option
from pipeline.errors import LockedError, MissingInputError, disk_errors

if TYPE_CHECKING:
    from datetime import date

    from pipeline.engine.consumed import Folder
    from pipeline.engine.leftovers import Leftover
    from pipeline.engine.vault import Vault
    from pipeline.instrument import Instrument

_MOST_REASONS = 3


@click.command(epilog="Example: flowvault gc --keep-days 30 --yes")
@instrument_options
@click.option(
    "--keep-days",
    type=click.IntRange(min=0),
    default=7,
    show_default=True,
    help="Raw files of today (UTC) and of so many days before it stay.",
)
@click.option("--yes", is_flag=True, help="Do it; without this, only say what would be done.")
@json_option("One JSON object per file.")
@click.pass_obj
def command(
    vault: Path,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    keep_days: int,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete consumed raw files and what killed runs left behind.

    A day's raw file goes when every stage of every instrument that reads it has read it to its
    end and gone on to a later day. Rows stay as they are and later rows come as if it were still
    there; only a rebuild of the stages that read it would lose that day's rows, and refuses. The
    newest file of a folder always stays. Without -i every instrument is looked at.
    """
    from pipeline.engine.consumed import day_before, raw_folders  # noqa: PLC0415
    from pipeline.engine.leftovers import stages_of  # noqa: PLC0415
    from pipeline.engine.vault import Vault  # noqa: PLC0415

    del every
    if not vault.is_dir():
        raise MissingInputError(f"there is no vault at {vault}", f"flowvault --vault {vault} demo")

    is_chosen = chooser(inst_ids, exchange, market)
    opened = Vault.open(vault)
    before = day_before(datetime.now(UTC).date(), keep_days)
    work = _Work(opened, before, is_done=yes)
    with disk_errors("mend it, then run the same command again; what is left is as it was"):
        for folder in raw_folders(opened.paths):
            if any(is_chosen(reader.instrument) for reader in folder.readers):
                work.folder(folder)
        for stage, instrument in stages_of(opened.paths):
            if is_chosen(instrument):
                work.leftovers(stage, instrument)
    lines = work.as_json() if as_json else work.as_text()
    for line in lines:
        click.echo(line)
    for error in work.locked:
        click.echo(f"flowvault: {error}", err=True)
    if work.locked:
        sys.exit(LockedError.status)


class _Work:
    """What is, or would be, deleted."""

    def __init__(self, vault: Vault, before: date, *, is_done: bool) -> None:
        self.vault = vault
        self.before = before
        self.is_done = is_done
        self.folders: list[Folder] = []
        self.rest: list[Leftover] = []
        self.locked: list[LockedError] = []

    def folder(self, folder: Folder) -> None:
        """Look at a raw folder, and delete what nobody needs."""
        from pipeline.engine.consumed import delete, judge  # noqa: PLC0415

        judged = judge(self.vault, folder, self.before)
        if self.is_done and judged.consumed:
            try:
                judged = delete(self.vault, folder, self.before)
            except LockedError as error:
                self.locked.append(error)
                return
        self.folders.append(judged)

    def leftovers(self, stage: Any, instrument: Instrument) -> None:
        """Look for what killed runs of a stage left, and delete it."""
        from pipeline.engine import lock  # noqa: PLC0415
        from pipeline.engine.leftovers import is_busy, leftovers  # noqa: PLC0415

        paths = self.vault.paths
        if is_busy(paths, stage.name, instrument) or not leftovers(paths, stage, instrument):
            return
        with ExitStack() as held:
            if self.is_done:
                what = f"stage {stage.name} of {instrument.key}"
                try:
                    held.enter_context(lock.hold(paths.lock(stage.name, instrument), what))
                except LockedError as error:
                    self.locked.append(error)
                    return
            found = leftovers(paths, stage, instrument)
            for each in found if self.is_done else ():
                each.remove()
        self.rest += found

    @property
    def size(self) -> int:
        """Bytes of everything."""
        files = sum(file.size for folder in self.folders for file in folder.consumed)
        return files + sum(each.size for each in self.rest)

    def as_json(self) -> Iterator[bytes]:
        """An object per file: what it is, why it stays, and its bytes."""
        relative = self.vault.paths.relative
        for folder in self.folders:
            kind = {"what": f"raw {folder.kind}"}
            for file in folder.consumed:
                yield self._line(relative(file.path), file.size, kind, is_kept=False)
            for file, why in folder.kept:
                yield self._line(relative(file.path), file.size, kind, is_kept=True, why=why)
        for each in self.rest:
            yield self._line(relative(each.path), each.size, {"what": each.what}, is_kept=False)

    def _line(
        self, path: str, size: int, kind: dict[str, str], *, is_kept: bool, why: str | None = None
    ) -> bytes:
        is_deleted = self.is_done and not is_kept
        head = {"path": path, "bytes": size, "deleted": is_deleted, "kept_because": why}
        return msgspec.json.encode(head | kind)

    def as_text(self) -> Iterator[str]:
        """The same for people."""
        relative = self.vault.paths.relative
        going = [folder for folder in self.folders if folder.consumed]
        if going or self.rest:
            yield "deleted:" if self.is_done else "would be deleted:"
        for folder in going:
            yield _row(relative(folder.path), folder.consumed)
        for each in self.rest:
            yield f"  {relative(each.path)}  {each.what}  {each.size:,} B"
        staying = [folder for folder in self.folders if folder.kept]
        if staying:
            yield f"older than {self.before} and still needed:"
        for folder in staying:
            yield from _kept(relative(folder.path), folder)
        if not going and not self.rest:
            yield f"nothing to delete (days before {self.before}, {len(self.folders)} raw folders)"
            return
        done = "deleted" if self.is_done else "to be deleted"
        yield f"{self.size:,} B {done}"
        if going:
            readers = sorted({r.stage.name for folder in going for r in folder.readers})
            yield (
                f"rows made of these days stay; a rebuild of {', '.join(readers)} would lose them "
                "and needs --allow-missing"
            )
        if not self.is_done:
            yield "nothing is deleted yet; to do it, add --yes"


def _row(name: str, files: list[Any]) -> str:
    size = sum(file.size for file in files)
    return f"  {name}  {_days([file.day for file in files])}  {size:,} B"


def _kept(name: str, folder: Folder) -> Iterator[str]:
    """The files that stay, by the reason."""
    by_reason: dict[str, list[Any]] = {}
    for file, why in folder.kept:
        by_reason.setdefault(why, []).append(file)
    for why, files in list(by_reason.items())[:_MOST_REASONS]:
        yield f"{_row(name, files)}: {why}"
    if len(by_reason) > _MOST_REASONS:
        yield f"  {name}  and for {len(by_reason) - _MOST_REASONS} more reasons (--json has all)"


def _days(days: list[str]) -> str:
    from pipeline.engine.consumed import spans  # noqa: PLC0415

    found = [
        first if count == 1 else f"{first} to {last} ({count} days)"
        for first, last, count in spans(days)
    ]
    shown = ", ".join(found[:_MOST_REASONS])
    more = len(found) - _MOST_REASONS
    return f"{shown} and {more} more spans" if more > 0 else shown
