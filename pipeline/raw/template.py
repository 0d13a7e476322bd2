"""The fast path: lines of one layout, read as columns.

A collector writes line after line with the same keys in the same order. Cut at the double quotes,
such lines are rows of a table whose even columns are punctuation and whose odd columns are keys
and strings, so a CSV parser reads them at full speed. The first line is the template; every row
must repeat its keys and punctuation to the letter, and every literal must be valid JSON. A row
that does not is not judged here: it goes to `lines`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl

_LITERAL = re.compile(r"([\s:\[\]{},]*)([^\s:\[\]{},\"]+)([\s:\[\]{},]*)")
_PUNCTUATION = re.compile(r"[\s:\[\]{},]*")
_JSON_LITERAL = r"(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|true|false|null)"
_MAX_TOKENS = 400


@dataclass(frozen=True, slots=True)
class Field:
    """Where a value stands: its column, and whether it was written as a JSON string."""

    column: str
    is_string: bool


@dataclass(frozen=True, slots=True)
class Template:
    """The layout of a line: constants to be met, literals to be checked, fields by path."""

    constants: tuple[tuple[str, str], ...]
    literals: tuple[tuple[str, str], ...]
    fields: dict[str, Field]
    width: int

    @classmethod
    def of(cls, line: bytes) -> Template | None:
        """Derive the layout of a line that is known to be one valid JSON object."""
        tokens = line.decode("ascii").split('"')
        if len(tokens) > _MAX_TOKENS:
            return None
        constants: list[tuple[str, str]] = []
        literals: list[tuple[str, str]] = []
        fields: dict[str, Field] = {}
        walk = _Walk()
        for index, token in enumerate(tokens):
            column = f"column_{index + 1}"
            if index % 2 == 0:
                literal = _LITERAL.fullmatch(token)
                if literal is not None:
                    walk.punctuation(literal[1])
                    if walk.path() in fields:
                        return None
                    pattern = f"^{re.escape(literal[1])}{_JSON_LITERAL}{re.escape(literal[3])}$"
                    literals.append((column, pattern))
                    fields[walk.path()] = Field(column, is_string=False)
                    walk.punctuation(literal[3])
                elif _PUNCTUATION.fullmatch(token):
                    constants.append((column, token))
                    walk.punctuation(token)
                else:
                    return None
            elif tokens[index + 1].lstrip()[:1] == ":":
                constants.append((column, token))
                walk.key = token
            else:
                path = walk.path()
                if path in fields:
                    return None
                fields[path] = Field(column, is_string=True)
        return cls(tuple(constants), tuple(literals), fields, len(tokens))

    def read(self, block: bytes, lines: int) -> pl.DataFrame | None:
        """Read `lines` lines as text columns plus `fits`, true where the layout was met.

        Literal columns hold the literal's text. Returns None when rows and lines do not match
        up, or a byte occurs that only the careful path may judge.
        """
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        codes = np.frombuffer(block, np.uint8)
        if not block.isascii() or b"\\" in block or np.count_nonzero(codes < 32) != lines:
            return None
        schema = {f"column_{i + 1}": pl.String for i in range(self.width + 1)}
        try:
            table = pl.read_csv(
                block,
                separator='"',
                quote_char=None,
                has_header=False,
                schema=schema,
                missing_columns="insert",
                extra_columns="ignore",
                truncate_ragged_lines=True,
            )
        except pl.exceptions.PolarsError:
            return None
        if table.height != lines:
            return None
        fits = [pl.col(f"column_{self.width + 1}").is_null()]
        fits += [pl.col(column).eq_missing(pl.lit(text)) for column, text in self.constants]
        texts = [pl.col(column).str.extract(pattern, 1) for column, pattern in self.literals]
        fits += [text.is_not_null() for text in texts]
        fits += [
            pl.col(field.column).is_not_null() for field in self.fields.values() if field.is_string
        ]
        kept = [pl.col(field.column) for field in self.fields.values() if field.is_string]
        return table.select(*kept, *texts, pl.all_horizontal(fits).alias("fits"))


class _Walk:
    """Where in the object the walk stands, as a path such as `data[].px`."""

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.key = ""

    def punctuation(self, token: str) -> None:
        for char in token:
            if char == "{":
                in_list = bool(self.stack) and self.stack[-1].endswith("[]")
                self.stack.append(f"{self.key}." if self.key or in_list else "")
                self.key = ""
            elif char == "[":
                self.stack.append(f"{self.key}[]")
                self.key = ""
            elif char in "}]" and self.stack:
                self.stack.pop()
                self.key = ""

    def path(self) -> str:
        return "".join(self.stack) + self.key
