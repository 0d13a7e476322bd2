"""A vault's layers as polars frames, at their committed length."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import stages
from pipeline.engine.paths import VaultPaths, find_instruments, instruments_of
from pipeline.errors import MissingInputError, UsageError, disk_errors
from pipeline.frames.times import Time, time_us
from pipeline.instrument import Instrument
from pipeline.layers import Layer

if TYPE_CHECKING:
    import polars as pl

    from pipeline.engine.committed import Committed
    from pipeline.engine.seek import Span


class Vault:
    """The layers of a vault, to be read.

    Nothing here changes a vault. What is read is what one commit left, also while a run or a
    rebuild is under way.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        """Look at a vault.

        Args:
            root: its folder; else $FLOWVAULT_VAULT, else ./vault.

        Raises:
            MissingInputError: there is no such folder.
        """
        self.root = Path(root or os.environ.get("FLOWVAULT_VAULT") or "vault").absolute()
        if not self.root.is_dir():
            message = f"there is no vault at {self.root}"
            raise MissingInputError(message, f"flowvault --vault {self.root} demo")
        self._paths = VaultPaths(self.root)

    def __repr__(self) -> str:
        return f"Vault({str(self.root)!r})"

    def read(
        self,
        layer: str,
        inst_id: str | Instrument,
        *,
        exchange: str = "okx",
        market: str = "perps",
        since: Time | None = None,
        until: Time | None = None,
        columns: Iterable[str] | None = None,
    ) -> pl.DataFrame:
        """The committed rows of a layer for one instrument.

        Args:
            layer: a layer's name, or a stage's that has one layer.
            inst_id: the instrument as its exchange names it, or one of `instruments()`.
            exchange: its folder under raw/.
            market: "perps" or "spot".
            since: only rows at or after this time.
            until: only rows before this time.
            columns: only these, in this order.

        Returns:
            The columns that `flowvault layers` lists; times are `Datetime("us", "UTC")`.

        Raises:
            UsageError: no such layer, column or time.
            MissingInputError: the layer has never been made for the instrument.
            DataError: committed rows are not there or damaged.
        """
        committed = self._committed(layer, inst_id, exchange, market)
        chosen = _columns(committed.layer, columns)
        span = _span(since, until)
        try:
            with disk_errors():
                return committed.read(span, chosen)
        except MissingInputError as error:
            raise self._not_made(committed) from error

    def scan(
        self,
        layer: str,
        inst_id: str | Instrument,
        *,
        exchange: str = "okx",
        market: str = "perps",
        since: Time | None = None,
        until: Time | None = None,
        columns: Iterable[str] | None = None,
    ) -> pl.LazyFrame:
        """The same rows as a lazy frame: those committed at the moment of the call.

        Files of Parquet layers are read when it is collected, only those and only the columns
        that the query needs. If a rebuild replaces them in between, collecting raises a
        `DataError`: scan again.

        Raises:
            FlowvaultError: as `read`.
        """
        committed = self._committed(layer, inst_id, exchange, market)
        chosen = _columns(committed.layer, columns)
        span = _span(since, until)
        try:
            with disk_errors():
                found = committed.scan(span)
        except MissingInputError as error:
            raise self._not_made(committed) from error
        return found if chosen is None else found.select(chosen)

    def instruments(self) -> list[Instrument]:
        """Every instrument that has raw data or layers, in order."""
        with disk_errors():
            made = (instruments_of(self._paths, stage) for stage in stages.SUMMARY)
            return sorted({*find_instruments(self.root), *(e for found in made for e in found)})

    def layers(self) -> pl.DataFrame:
        """What there is to read: a row per layer and instrument.

        Returns:
            `layer stage exchange market instId rows last_row`; `last_row` is null without rows.

        Raises:
            DataError: a state file cannot be read.
        """
        import polars as pl  # noqa: PLC0415

        from pipeline.engine.seek import moment  # noqa: PLC0415
        from pipeline.engine.state import read_state  # noqa: PLC0415

        found: list[dict[str, Any]] = []
        for stage in stages.all_stages():
            for instrument in instruments_of(self._paths, stage.name):
                with disk_errors():
                    state = read_state(self._paths.state(stage.name, instrument))
                marks = {} if state is None else state.layers
                for layer in stage.layers:
                    mark = marks.get(layer.name)
                    last = None if mark is None or mark.last_us is None else moment(mark.last_us)
                    found.append(
                        {
                            "layer": layer.name,
                            "stage": stage.name,
                            "exchange": instrument.exchange,
                            "market": instrument.market,
                            "instId": instrument.inst_id,
                            "rows": mark.rows if mark is not None else 0,
                            "last_row": last,
                        }
                    )
        names = ("layer", "stage", "exchange", "market", "instId")
        schema: dict[str, Any] = dict.fromkeys(names, pl.String)
        schema |= {"rows": pl.Int64, "last_row": pl.Datetime("us", "UTC")}
        return pl.DataFrame(found, schema=schema)

    def sql(self, text: str) -> pl.DataFrame:
        """The rows of a DuckDB query over the layers, as `flowvault sql` has them.

        Raises:
            UsageError: the query is wrong.
            MissingInputError: a layer that it names has no rows.
        """
        from pipeline.engine import sql  # noqa: PLC0415

        with disk_errors():
            return sql.query(self.root, text)

    def _committed(
        self, name: str, inst_id: str | Instrument, exchange: str, market: str
    ) -> Committed:
        from pipeline.engine.committed import Committed  # noqa: PLC0415

        layer, stage = _layer(name)
        instrument = (
            inst_id if isinstance(inst_id, Instrument) else Instrument(exchange, market, inst_id)
        )
        return Committed(self._paths, layer, stage, instrument)

    def _not_made(self, committed: Committed) -> MissingInputError:
        """What to do about a layer that an instrument does not have."""
        layer, stage, instrument = committed.layer, committed.stage, committed.instrument
        message = f"{layer.name} of {instrument.key} has never been made in {self.root}"
        made = instruments_of(self._paths, stage)
        alike = [each for each in made if each.inst_id == instrument.inst_id]
        if alike:
            where = f"exchange={alike[0].exchange!r}, market={alike[0].market!r}"
            hint = f'read("{layer.name}", "{instrument.inst_id}", {where})'
            return MissingInputError(message, hint)
        if instrument in set(find_instruments(self.root)):
            return MissingInputError(message, f"flowvault {stage} {instrument.options}")
        known = ", ".join(each.key for each in self.instruments()) or "none"
        message = f"{message}; instruments there: {known}"
        return MissingInputError(message, "Vault(...).layers()")


def _layer(name: str) -> tuple[Layer, str]:
    """A layer by its own name, or by that of a stage that has one."""
    found = stages.layers().get(name)
    if found is not None:
        return found[0], found[1].name
    if name in stages.SUMMARY:
        own = stages.load(name).layers
        if len(own) == 1:
            return own[0], name
        names = ", ".join(layer.name for layer in own)
        raise UsageError(f"stage {name} has several layers: {names}", f'read("{own[0].name}", …)')
    known = ", ".join(stages.layers())
    raise UsageError(f"no layer {name!r}; layers: {known}", "flowvault layers")


def _columns(layer: Layer, columns: Iterable[str] | None) -> list[str] | None:
    if columns is None:
        return None
    chosen = [columns] if isinstance(columns, str) else list(columns)
    unknown = [name for name in chosen if name not in layer.keys]
    if unknown or len(set(chosen)) < len(chosen):
        known = ", ".join(layer.keys)
        what = f"no column {unknown[0]!r}" if unknown else "a column twice"
        raise UsageError(
            f"{layer.name}: {what}; columns: {known}", f"flowvault layers {layer.name}"
        )
    return chosen


def _span(since: Time | None, until: Time | None) -> Span:
    from pipeline.engine.seek import Span  # noqa: PLC0415

    return Span(time_us(since, "since"), time_us(until, "until"))
