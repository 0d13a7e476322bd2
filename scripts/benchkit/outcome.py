"""What a row found: lines of the table, and what they compare."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Aim:
    """A limit that a number should not exceed, and a lower goal beyond it.

    With `is_least` it should not fall short of the limit, and a goal is higher.
    """

    limit: float
    unit: str = ""
    goal: float | None = None
    is_least: bool = False

    @property
    def text(self) -> str:
        """As the table shows it."""
        goal = "" if self.goal is None else f" (goal {self.goal:g}{self.unit})"
        return f"{'>=' if self.is_least else '<='} {self.limit:,g}{self.unit}{goal}"

    def verdict(self, number: float) -> str:
        """Whether a number keeps it."""
        sign = -1 if self.is_least else 1
        if sign * number > sign * self.limit:
            return "MISSED"
        if self.goal is None:
            return "met"
        is_reached = sign * number <= sign * self.goal
        return "met, goal too" if is_reached else "met, not the goal"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table; `judged` is the number that `aim` is about."""

    what: str
    flowvault: str
    peer: str = ""
    ratio: str = ""
    aim: Aim | None = None
    judged: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the aim was reached, empty without one."""
        if self.aim is None or self.judged is None:
            return ""
        return self.aim.verdict(self.judged)

    @property
    def cells(self) -> tuple[str, ...]:
        """The line's cells, as the columns of the table."""
        aim = self.aim.text if self.aim else ""
        return (self.what, self.flowvault, self.peer, self.ratio, aim, self.verdict)


COLUMNS = ("measured", "flowvault", "peer", "ratio", "aim", "verdict")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the benchmark: its lines and a sentence about what they compare."""

    title: str
    text: str
    lines: list[Line] = field(default_factory=list)
