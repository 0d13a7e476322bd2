"""`flowvault model`: the models of trade clusters side by side, and whether their labels last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from pipeline import stages
from pipeline.cli.choose import choose, instrument_options, json_option
from pipeline.errors import MissingInputError
from pipeline.instrument import Instrument

_STABLE, _MARGIN = 0.7, 0.1
"""Below these two models do not call the same trades the same, and roles may swap."""

_ROLES = {1: "directional", 2: "opportunistic", 3: "market-making"}
_NAMES = ("v_rel", "sbs", "obs", "spread", "t_mid", "t_side")


@click.command(epilog="Example: flowvault model -i BTC-USDT-SWAP --json")
@instrument_options
@json_option("One JSON object per model.")
@click.pass_obj
def command(
    vault: Path,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    as_json: bool,
) -> None:
    """Show the models of stage clusters side by side, and warn where labels do not last.

    Of each model: its rows, silhouette and role margin; of each cluster its role, the mean scores
    it was fitted to (z) and the mean features of its trades on the training day. Stability is the
    adjusted Rand index of the labels that a model and the one before it give to that day's
    trades: 1 the same, 0 as by chance.
    """
    for instrument in choose(vault, inst_ids, exchange, market, every):
        found = _models(vault, instrument, required=not every)
        if as_json:
            for model in found:
                click.echo(msgspec.json.encode(_plain(model)))
        elif found:
            _print(instrument, found)


def _models(vault: Path, instrument: Instrument, *, required: bool) -> list[dict[str, Any]]:
    """Documents, oldest first, with what the trades of their training days add to them.

    Raises:
        MissingInputError: the stage has never run for an instrument that was named.
    """
    from pipeline.calc.cluster_model import FEATURES, SCORES, Centres, label  # noqa: PLC0415
    from pipeline.calc.kmeans import means, rand_index  # noqa: PLC0415
    from pipeline.engine.paths import VaultPaths  # noqa: PLC0415
    from pipeline.engine.reader import last_documents  # noqa: PLC0415
    from pipeline.engine.state import read_state  # noqa: PLC0415

    paths, layer = VaultPaths(vault), stages.layers()["model"][0]
    state = read_state(paths.state("clusters", instrument))
    if state is None:
        if required:
            message = f"model of {instrument.key} has never been run"
            raise MissingInputError(message, f"flowvault clusters {instrument.options}")
        return []
    folder = paths.derived(layer.folder, instrument)
    texts = last_documents(folder, state, layer, len(state.outputs))
    found, before = [], None
    for document in map(msgspec.json.decode, texts):
        centres = msgspec.convert(document, Centres)
        rows = _of_day(paths, instrument, state, document["trained_on"])
        scores = rows.select(SCORES).to_numpy()
        labels = label(scores, centres)
        known = labels > 0
        values = rows.select(FEATURES).to_numpy()[known]
        document |= {
            "exchange": instrument.exchange,
            "market": instrument.market,
            "instId": instrument.inst_id,
            "means": means(values, labels[known] - 1, len(centres.roles)).tolist(),
            "stability": None,
        }
        if before is not None:
            document["stability"] = rand_index(labels[known], label(scores[known], before))
        document["warnings"] = _warnings(document)
        before = centres
        found.append(document)
    return found


def _of_day(paths: Any, instrument: Instrument, state: Any, day: str) -> Any:
    """The rows of `clusters` of a day by the clock, which `cluster_flow` has row by row."""
    import polars as pl  # noqa: PLC0415

    from pipeline.engine.codecs import FrameCodec  # noqa: PLC0415
    from pipeline.engine.parts import read_rows  # noqa: PLC0415

    frames = []
    clocks = read_rows(
        paths.derived("cluster_flow", instrument),
        state.parts["cluster_flow"],
        0,
        FrameCodec(),
        ["ts"],
    )
    rows = read_rows(
        paths.derived("clusters", instrument), state.parts["clusters"], 0, FrameCodec(), None
    )
    # files of both layers hold the same rows
    for (clock, _), (frame, _) in zip(clocks, rows, strict=True):
        chosen = frame.filter(clock["ts"].dt.strftime("%Y-%m-%d") == day)
        if chosen.height:
            frames.append(chosen)
    return pl.concat(frames)


def _warnings(model: dict[str, Any]) -> list[str]:
    """What speaks against trusting a model's labels."""
    found = []
    stability, margin = model["stability"], model["role_margin"]
    if stability is not None and stability < _STABLE:
        found.append(
            f"labels are not stable: the model before gives the same trades other labels "
            f"(adjusted Rand index {stability:.2f} < {_STABLE})"
        )
    if margin < _MARGIN:
        found.append(f"roles may swap tomorrow: role_margin {margin:.2f} < {_MARGIN}")
    return found


def _plain(value: Any) -> Any:
    """The same without NaN: the mean of no rows is null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if value != value else value  # noqa: PLR0124


def _print(instrument: Instrument, found: list[dict[str, Any]]) -> None:
    click.echo(instrument.key)
    head = "".join(f"{name:>12}" for name in ("rows", "silhouette", "margin", "shift", "stability"))
    click.echo(f"  {'valid from':<12}{head}")
    for model in found:
        numbers = [
            model[name] for name in ("silhouette", "role_margin", "centroid_shift", "stability")
        ]
        cells = "".join(f"{'-' if each is None else f'{each:.3f}':>12}" for each in numbers)
        click.echo(f"  {model['valid_from']:<12}{model['n_rows']:>12,}{cells}")
    for model in found:
        _print_clusters(model)
    for model in found:
        for warning in model["warnings"]:
            click.echo(f"flowvault: model of {model['valid_from']}: {warning}", err=True)


def _print_clusters(model: dict[str, Any]) -> None:
    names = "".join(f"{name:>9}" for name in _NAMES)
    click.echo(f"\n  {model['valid_from']}  cluster  {'role':<15}{'fitted':>9}      {names}")
    clusters = zip(model["roles"], model["counts"], model["centroids"], model["means"], strict=True)
    for number, (role, count, centroid, means) in enumerate(clusters, 1):
        scores = "".join(f"{each:>9.2f}" for each in centroid)
        click.echo(f"{'':<14}{number:>7}  {_ROLES[role]:<15}{count:>9,}     z{scores}")
        values = "".join(f"{'-' if each != each else f'{each:.2f}':>9}" for each in means)  # noqa: PLR0124
        click.echo(f"{'':<49}mean{values}")
