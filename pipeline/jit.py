"""Loops that are compiled the first time they are needed.

A loop is written as a plain, typed function and marked with `Loops.add`; `Loops.compile` replaces
all of them at once, so that they call each other compiled. They must not call loops of another
module: numba's cache looks at one file only and would not notice that the other has changed.
numba takes a moment to import and is not loaded before that.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Loops:
    """The compiled functions of one module."""

    def __init__(self, names: dict[str, Any]) -> None:
        """Keep the module's `globals()`, in which the functions are to be replaced."""
        self._names = names
        self._plain: list[Callable[..., Any]] = []
        self._lean: set[str] = set()
        self._lock = threading.Lock()
        self._is_compiled = False

    def add(self, function: F) -> F:
        """Mark a function of the module; it stays plain Python until `compile`."""
        self._plain.append(function)
        return function

    def add_lean(self, function: F) -> F:
        """As `add`, for a function that makes no array.

        It is compiled without counting references to the arrays it is given: counting them takes
        longer than the work itself where small functions pass many arrays on.
        """
        self._lean.add(function.__name__)
        return self.add(function)

    def compile(self) -> None:
        """Compile what is marked; machine code comes from numba's cache where there is one."""
        if self._is_compiled:
            return
        with self._lock:
            if not self._is_compiled:
                self._names.update(
                    {
                        each.__name__: _compiled(each, is_lean=each.__name__ in self._lean)
                        for each in self._plain
                    }
                )
                self._is_compiled = True


def _compiled(function: Callable[..., Any], *, is_lean: bool = False) -> Any:
    njit = importlib.import_module("numba").njit
    options = {"nogil": True, "error_model": "numpy"} | ({"_nrt": False} if is_lean else {})
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that could hold the cache may be written to
        return njit(**options)(function)
