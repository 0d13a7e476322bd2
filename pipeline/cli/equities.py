"""`flowvault equities`: what a symbol's tape and the published tables say over a period."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pipeline import stages, tables
from pipeline.cli.choose import json_option
from pipeline.cli.run import Printer, exit_with_worst, run_instruments
from pipeline.cli.tables import NOTICE, bring_up
from pipeline.errors import MissingInputError
from pipeline.instrument import EQUITIES, Instrument

if TYPE_CHECKING:
    from pipeline.engine.period import Answer, Period

DELAYS = (
    "What is published late: FINRA's weekly venue volume 21 days after the week's Monday (T1) or "
    "35 (T2, OTC), 13F holdings up to 45 days after the quarter. Until then rows of institutions "
    "say NOWCAST: the last published shares of the venues times the day's off-exchange volume, "
    "with a confidence of 0.5 at most. VPIN, lambda and imbalance name nobody."
)
_DATE = click.DateTime(["%Y-%m-%d"])
_SIGNALS = {
    "vpinAvg": "vpin_avg",
    "vpinSpike": "vpin_spike",
    "lambdaAvg": "lambda_avg",
    "orderImbalanceAvg": "order_imbalance_avg",
    "blockRatioAvg": "block_ratio_avg",
    "flowAttributionScore": "flow_attribution_score",
    "microConfidence": "micro_confidence",
}


@click.group(
    "equities",
    epilog="Example: flowvault equities run --symbol AIG --from 2013-10-07 --to 2013-10-11",
)
def command() -> None:
    """Ask what tape, venues and filings say of a US stock."""


def _day(_context: click.Context, _option: click.Parameter, value: datetime | None) -> date | None:
    return None if value is None else value.date()


@command.command(
    "run",
    epilog="Example: flowvault equities run --symbol AIG --from 2013-10-07 --to 2013-10-11 --json",
)
@click.option("--symbol", required=True, help="The stock, as its folder under raw/taq/trades.")
@click.option("--from", "first", required=True, type=_DATE, callback=_day, help="First day.")
@click.option("--to", "last", required=True, type=_DATE, callback=_day, help="Last day, included.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.7,
    show_default=True,
    help="Leave out flows that are less sure than this; how many is said.",
)
@click.option(
    "--build-mapping",
    is_flag=True,
    help="Bring the map of venues and institutions up to date as well; without this the one that "
    "there is stays, and only a missing one is made.",
)
@click.option(
    "--as-known-on",
    "on",
    type=_DATE,
    callback=_day,
    help="Only what was public on the evening of this day: venues published, 13F filed, the map "
    "made of them. Nothing is written for it.",
)
@json_option("One JSON object.")
@click.pass_obj
def run(
    vault: Path,
    symbol: str,
    first: date,
    last: date,
    min_confidence: float,
    build_mapping: bool,
    on: date | None,
    as_json: bool,
) -> None:
    """Bring tape and tables up to date and print the signals of a period.

    Institutions are a statistical association, not an identification.
    """
    from pipeline.engine.period import Period, answer  # noqa: PLC0415
    from pipeline.engine.tables import are_here  # noqa: PLC0415
    from pipeline.engine.vault import Vault  # noqa: PLC0415

    if last < first:
        raise click.UsageError(f"--to {last} is before --from {first}")
    opened = Vault.open(vault)
    instrument = Instrument("taq", EQUITIES, symbol)
    has_tape = opened.paths.raw(instrument, "trades").is_dir()
    if not has_tape and not are_here(vault):
        folder = opened.paths.raw(instrument, "trades")
        raise MissingInputError(f"{symbol}: there is no {folder}", "flowvault status")
    printer = Printer(as_json=as_json)
    frozen = frozenset() if build_mapping else frozenset(("broker_map",))
    with printer.progress() as report:
        statuses: set[int] = set()
        if has_tape:
            chain = stages.with_upstream(["metrics_daily"])
            statuses = run_instruments(opened, [instrument], chain, printer, report, quiet=as_json)
        chosen = tables.with_upstream(["micro_signals"])
        statuses |= bring_up(opened, chosen, printer, report, frozen=frozen, quiet=as_json)
    asked = Period(symbol, first, last, min_confidence, on)
    found = answer(opened, asked)
    if found.signals is None:
        message = f"{symbol}: nothing is known from {first} to {last}"
        where = (
            "select symbol, min(trade_date), max(trade_date) from micro_metrics_daily group by 1"
        )
        printer.error(MissingInputError(message, f'flowvault sql "{where}"'))
        exit_with_worst(statuses | {MissingInputError.status})
        return
    if as_json:
        click.echo(msgspec.json.encode(_as_json(asked, found)))
    else:
        _print(asked, found)
    exit_with_worst(statuses)


def _as_json(asked: Period, found: Answer) -> dict[str, Any]:
    row = found.signals or {}
    return {
        "symbol": asked.symbol,
        "from": asked.first,
        "to": asked.last,
        **{name: row[column] for name, column in _SIGNALS.items()},
        "tradingDays": found.trading_days,
        "metricDays": row["metric_days"],
        "coverage": row["coverage"],
        "vpinQuality": found.flags,
        "lambdaDays": found.lambda_days,
        "flowRows": row["flow_rows"],
        "flowMode": row["flow_mode"],
        "minConfidence": asked.min_confidence,
        "flowsBelowMinConfidence": found.below,
        "mapDate": found.map_date,
        "asKnownOn": asked.on,
        "availableDate": row["available_date"],
        "notes": _notes(asked, found),
    }


def _notes(asked: Period, found: Answer) -> list[str]:
    """What one must know to read the signals."""
    row = found.signals or {}
    notes = [*found.notes]
    if found.below:
        text = f"{found.below:,} flows below {asked.min_confidence:g} are left out"
        if found.nowcasts:
            text += f", {found.nowcasts:,} of them nowcasts, which never exceed 0.5"
        notes.append(text)
    if not row["flow_rows"]:
        notes.append("no flows of institutions count, so microConfidence is 0.5 at most")
    is_later = found.map_date is not None and found.map_date > asked.last
    if row["flow_rows"] and is_later and asked.on is None:
        notes.append(
            f"the map of venues and institutions is that of {found.map_date}, behind the period: "
            "--as-known-on shows what could be known"
        )
    if asked.on is not None and row["available_date"] is not None:
        notes.append(
            "revisions are not undone: what FINRA, prices or a tape said at first is not kept"
        )
    return [*notes, NOTICE, DELAYS]


def _print(asked: Period, found: Answer) -> None:
    row = found.signals or {}
    known = "" if asked.on is None else f", as known on {asked.on}"
    click.echo(f"\n{asked.symbol} from {asked.first} to {asked.last}{known}")
    flags = ", ".join(f"{count} {name}" for name, count in found.flags.items())
    days = sum(found.flags.values())
    beside = {
        "vpinAvg": f"{days} of {row['metric_days']} days have one"
        + (f": {flags}" if flags else ""),
        "vpinSpike": "any day above 0.7; rare",
        "lambdaAvg": f"bps per $1M; {found.lambda_days} of {row['metric_days']} days have one",
        "orderImbalanceAvg": "-1 sellers … +1 buyers",
        "blockRatioAvg": "share of volume in blocks",
        "flowAttributionScore": f"of {row['flow_rows']:,} flows"
        + (f", {row['flow_mode']}" if row["flow_mode"] else ""),
        "microConfidence": f"{row['metric_days']} of {found.trading_days} trading days covered",
    }
    for name, column in _SIGNALS.items():
        click.echo(f"  {name:<22}{_shown(row[column]):>10}  {beside[name]}")
    for note in _notes(asked, found):
        click.echo(f"- {note}")


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}"
