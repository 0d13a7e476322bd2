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
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any, TypeVar

from pipeline.cores import cores

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Loops:
    """The compiled functions of one module."""

    def __init__(self, names: dict[str, Any]) -> None:
        """Keep the module's `globals()`, in which the functions are to be replaced."""
        self._names = names
        self._plain: list[Callable[..., Any]] = []
        self._options: dict[str, dict[str, Any]] = {}
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
        self._options[function.__name__] = {"_nrt": False}
        return self.add(function)

    def add_small(self, function: F) -> F:
        """As `add_lean`, for a function whose machine code is to become part of its callers'."""
        self._options[function.__name__] = {"_nrt": False, "forceinline": True}
        return self.add(function)

    def add_inlined(self, function: F) -> F:
        """As `add_lean`, for a small function that is written out wherever it is called.

        Handing on a dozen arrays takes longer than what such a function does.
        """
        self._options[function.__name__] = {"_nrt": False, "inline": "always"}
        return self.add(function)

    def compile(self) -> None:
        """Compile what is marked; machine code comes from numba's cache where there is one."""
        if self._is_compiled:
            return
        with self._lock:
            if not self._is_compiled:
                self._names.update(
                    {
                        each.__name__: _compiled(each, self._options.get(each.__name__, {}))
                        for each in self._plain
                    }
                )
                self._is_compiled = True


def _compiled(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    njit = _numba().njit
    every = {"nogil": True, "error_model": "numpy", **options}
    try:
        return njit(cache=True, **every)(function)
    except RuntimeError:  # no folder that could hold the cache may be written to
        return njit(**every)(function)


@cache
def _numba() -> Any:
    """numba, which is not to look for linear algebra while it loads.

    It would import scipy.linalg for that where scipy is installed, which takes as long as it does
    itself; no loop here multiplies matrices.
    """
    numba = importlib.import_module("numba")
    linalg: Any = importlib.import_module("numba.np.linalg")
    looked_for = getattr(linalg, "ensure_blas", None)
    linalg.ensure_blas = _no_blas
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = looked_for
    return numba


def _no_blas() -> None:
    raise ImportError("not looked for")


def at_once(first: Callable[[], T], *others: Callable[[], T]) -> list[T]:
    """Call all of them, each on a core if it has one: compiled loops let go of the interpreter."""
    jobs = [_beside().submit(other) for other in others]
    try:
        return [first(), *(job.result() for job in jobs)]
    finally:
        wait(jobs)  # what they write to must not be looked at before


@cache
def _beside() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), thread_name_prefix="loops")
