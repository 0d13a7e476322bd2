"""Where flow and momentum point, each 1, 0 or -1, and how they get on."""

from __future__ import annotations

from pipeline.calc.tolerant import same

AGREE, NEITHER, OPPOSE = 1.0, 0.65, 0.3

WORDS = {1: "BULLISH", 0: "NEUTRAL", -1: "BEARISH"}
SIGNS = {word: number for number, word in WORDS.items()}


def agreement(momentum: int | None, flow: int | None) -> float | None:
    """1 if both point the same way, 0.3 if they oppose each other, 0.65 if one does not point."""
    if momentum is None or flow is None:
        return None
    if not momentum or not flow:
        return NEITHER
    return AGREE if momentum == flow else OPPOSE


def direction(momentum: int | None, flow: int | None) -> str | None:
    """Where the two together point, in a word."""
    if momentum is None or flow is None:
        return None
    total = momentum + flow
    return WORDS[(total > 0) - (total < 0)]


def momentum_of(word: str | None, flow: int | None, agreed: float | None) -> int | None:
    """The momentum behind a direction and an agreement: what `direction` and `agreement` lose."""
    if word is None or flow is None or agreed is None:
        return None
    if not flow:
        return SIGNS[word]
    if same(agreed, AGREE):
        return flow
    return -flow if same(agreed, OPPOSE) else 0
