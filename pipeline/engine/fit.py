"""Whether a state was made by this version of a stage with these parameters."""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.engine.state import State
from pipeline.instrument import Contract
from pipeline.stage import Stage


def fingerprint(
    stage: Stage[Any, Any], params: msgspec.Struct, contract: Contract
) -> dict[str, Any]:
    """The parameters as the state keeps them, contract size included where it matters."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(params))
    if stage.raw_kind:
        found["contract"] = f"{contract.kind} {contract.value or 'from the record'}"
    if stage.uses_tick:
        found["tick"] = contract.tick
    return found


def misfit(stage: Stage[Any, Any], state: State, params: dict[str, Any]) -> str | None:
    """What has changed since the state was made, so that a rebuild is needed; None: nothing.

    Args:
        stage: the stage as it is now.
        state: its state.
        params: the fingerprint of its parameters now.
    """
    name = f"{stage.name} of {state.instrument}"
    if state.code_version != stage.version:
        return (
            f"{name} was made by version {state.code_version} of the stage; "
            f"this is version {stage.version}"
        )
    if state.params == params:
        return None
    changed = ", ".join(
        f"{key}: {state.params.get(key)} -> {params.get(key)}"
        for key in sorted({*state.params, *params})
        if state.params.get(key) != params.get(key)
    )
    return f"parameters of {name} changed ({changed})"
