"""Which signal a bar gives, from the structure around its price and how it was traded.

The rules are asked in order and the first that holds decides. A condition on something unknown
does not hold. Comparisons are tolerant.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from pipeline.calc.momentum import SIGNS, momentum_of
from pipeline.calc.presets import BY_PROFILE
from pipeline.calc.tolerant import above, at_least

LONG, SHORT, NONE = "LONG", "SHORT", "NONE"
_SIDES = {1: LONG, -1: SHORT}

FADE, DIVERGENCE, BOUNCE, STRONG = (
    "FADE_EXHAUSTION",
    "DIVERGENCE_WARNING",
    "CONFIRMED_BOUNCE",
    "STRONG_MOMENTUM",
)
CLEAN, NO_SIGNAL = "CLEAN_TREND_ENTRY", "NO_SIGNAL"
SIGNALS = (
    f"{STRONG}_LONG",
    f"{STRONG}_SHORT",
    f"{FADE}_SHORT",
    f"{FADE}_LONG",
    f"{BOUNCE}_LONG",
    f"{BOUNCE}_SHORT",
    CLEAN,
    DIVERGENCE,
    "ACCUMULATION",
    "DISTRIBUTION",
    NO_SIGNAL,
)
FOLLOWS_TREND = (STRONG, BOUNCE, CLEAN)
"""How the names of signals begin that go with the momentum."""


class Cluster(msgspec.Struct, frozen=True):
    """What a signal looks at of a volume cluster."""

    price: float
    ofi_bias: float | None = None
    distance_atr: float | None = None


class Structure(msgspec.Struct, frozen=True):
    """What is around the price of a bar (`vcp`)."""

    clusters: list[Cluster] = []
    structural_bias: float | None = None
    runway_long: float | None = None
    runway_short: float | None = None
    vcp_combined: float | None = None
    atr_14: float | None = None


class Participation(msgspec.Struct, frozen=True):
    """How a bar was traded (`ipu`)."""

    inst_proxy: float | None = None
    mms_slope: float | None = None
    mms_accel: float | None = None
    momentum_state: str | None = None
    flow_direction: int | None = None
    flow_momentum_agreement: float | None = None
    validated_momentum: float | None = None
    exhaustion_score: float | None = None
    exhaustion_warning: bool | None = None
    direction: str | None = None


class Limits(msgspec.Struct, frozen=True):
    """What the rules ask for.

    Attributes:
        near_atr: how many average ranges away a cluster still is at hand.
        require_flow: whether flow has to point where momentum points.
    """

    near_atr: float = 0.5
    require_flow: bool = BY_PROFILE
    exhausted: float = 0.9
    low_agreement: float = 0.5
    runway_min: float = 0.7
    bias_min: float = 0.3
    strong_min_inst: float = BY_PROFILE
    low_structure: float = 0.3
    high_inst: float = BY_PROFILE


@dataclass(frozen=True, slots=True)
class Signal:
    """What a bar says.

    Attributes:
        name: one of `SIGNALS`.
        direction: LONG, SHORT or NONE.
        reasons: the values that decided, as `name=value`.
    """

    name: str
    direction: str = NONE
    reasons: tuple[str, ...] = ()

    @property
    def is_fade(self) -> bool:
        """Whether it goes against the momentum."""
        return self.name.startswith(FADE)


@dataclass(frozen=True, slots=True)
class Scene:
    """A bar with all that its signal is judged by."""

    close: float
    vcp: Structure
    ipu: Participation
    limits: Limits

    @property
    def is_known(self) -> bool:
        """Whether there is enough to judge."""
        needed = (self.vcp.structural_bias, self.ipu.momentum_state, self.ipu.inst_proxy)
        return None not in needed

    @property
    def momentum(self) -> int | None:
        """Where momentum points."""
        ipu = self.ipu
        return momentum_of(ipu.direction, ipu.flow_direction, ipu.flow_momentum_agreement)

    @property
    def side(self) -> int:
        """Where momentum and flow together point."""
        return 0 if self.ipu.direction is None else SIGNS[self.ipu.direction]

    @property
    def goes(self) -> bool:
        """Whether momentum points there as well, and flow if that is required."""
        if not self.side or self.side != self.momentum:
            return False
        return not self.limits.require_flow or self.ipu.flow_direction == self.momentum

    def near(self, side: int) -> Cluster | None:
        """The nearest support (1) or resistance (-1) within reach; of equals the lower."""
        within = [each for each in self.vcp.clusters if self._is_near(each, side)]
        return min(within, key=lambda c: (abs(c.price - self.close), c.price), default=None)

    def _is_near(self, cluster: Cluster, side: int) -> bool:
        """Support was bought below the price, resistance was sold above it."""
        bias, distance = cluster.ofi_bias, cluster.distance_atr
        if bias is None or distance is None or not at_least(self.limits.near_atr, distance):
            return False
        ahead = above(self.close, cluster.price), above(cluster.price, self.close)
        return (ahead[0] and above(bias, 0)) if side > 0 else (ahead[1] and above(0, bias))


def signal_of(scene: Scene) -> Signal:
    """The signal of a bar."""
    if scene.is_known:
        for rule in _RULES:
            found = rule(scene)
            if found is not None:
                return found
    return Signal(NO_SIGNAL)


def _fade(scene: Scene) -> Signal | None:
    """Momentum is exhausted where something stands in its way."""
    side, ipu = scene.momentum, scene.ipu
    level = scene.near(-side) if side else None
    if not side or level is None or not _reaches(ipu.exhaustion_score, scene.limits.exhausted):
        return None
    reasons = _told((_level(-side), level.price), ("slope", ipu.mms_slope),
                    ("exhaustion", ipu.exhaustion_score))  # fmt: skip
    return Signal(f"{FADE}_{_SIDES[-side]}", _SIDES[-side], reasons)


def _divergence(scene: Scene) -> Signal | None:
    """Momentum slows down and flow is against it."""
    ipu, limit = scene.ipu, scene.limits.low_agreement
    agreed = ipu.flow_momentum_agreement
    if ipu.momentum_state != "DECELERATING" or agreed is None or not above(limit, agreed):
        return None
    reasons = _told(("slope", ipu.mms_slope), ("accel", ipu.mms_accel), ("agreement", agreed))
    return Signal(DIVERGENCE, NONE, reasons)


def _bounce(scene: Scene) -> Signal | None:
    """Price leaves a level behind, faster and faster."""
    side, ipu = scene.side, scene.ipu
    level = scene.near(side) if side else None
    if level is None or not scene.goes or ipu.momentum_state != "ACCELERATING":
        return None
    reasons = _told((_level(side), level.price), ("direction", ipu.direction),
                    ("accel", ipu.mms_accel))  # fmt: skip
    return Signal(f"{BOUNCE}_{_SIDES[side]}", _SIDES[side], reasons)


def _strong(scene: Scene) -> Signal | None:
    """Nothing stands in the way of a price that goes faster and faster."""
    side, ipu, vcp, limits = scene.side, scene.ipu, scene.vcp, scene.limits
    if not scene.goes or ipu.momentum_state != "ACCELERATING":
        return None
    runway, bias = vcp.runway_long if side > 0 else vcp.runway_short, vcp.structural_bias
    is_free = _exceeds(runway, limits.runway_min)
    is_backed = bias is not None and above(side * bias, limits.bias_min)
    if not is_free or not is_backed or not _reaches(ipu.inst_proxy, limits.strong_min_inst):
        return None
    reasons = _told(("runway", runway), ("bias", bias), ("direction", ipu.direction),
                    ("accel", ipu.mms_accel))  # fmt: skip
    return Signal(f"{STRONG}_{_SIDES[side]}", _SIDES[side], reasons)


def _clean(scene: Scene) -> Signal | None:
    """A steady trend with little around it."""
    ipu, structure = scene.ipu, scene.vcp.vcp_combined
    if not scene.goes or ipu.momentum_state != "TRENDING" or ipu.exhaustion_warning:
        return None
    if structure is None or not above(scene.limits.low_structure, structure):
        return None
    reasons = _told(("structure", structure), ("slope", ipu.mms_slope),
                    ("direction", ipu.direction))  # fmt: skip
    return Signal(CLEAN, _SIDES[scene.side], reasons)


def _quiet(scene: Scene) -> Signal | None:
    """Much is done and price stands still."""
    side, ipu = scene.side, scene.ipu
    if not side or ipu.momentum_state != "FLAT":
        return None
    if not _reaches(ipu.inst_proxy, scene.limits.high_inst):
        return None
    reasons = _told(("inst", ipu.inst_proxy), ("slope", ipu.mms_slope))
    return Signal("ACCUMULATION" if side > 0 else "DISTRIBUTION", _SIDES[side], reasons)


_RULES = (_fade, _divergence, _bounce, _strong, _clean, _quiet)


def _level(side: int) -> str:
    return "support" if side > 0 else "resistance"


def _reaches(value: float | None, limit: float) -> bool:
    return value is not None and at_least(value, limit)


def _exceeds(value: float | None, limit: float) -> bool:
    return value is not None and above(value, limit)


def _told(*values: tuple[str, float | str | None]) -> tuple[str, ...]:
    return tuple(
        f"{name}={value}" if isinstance(value, str) or value is None else f"{name}={value:.3f}"
        for name, value in values
    )


def follows_trend(name: str) -> bool:
    """Whether a signal goes with the momentum."""
    return name.startswith(FOLLOWS_TREND)
