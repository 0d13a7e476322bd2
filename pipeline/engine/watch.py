"""Notice that files below a folder have grown, have come or have gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.engine.rawfiles import DayFile, DayFolder

Tell = Callable[[set[Path]], None]
"""Is given the folders in which something has changed, in a thread of the watch."""

_LOOK_S = 0.05
_STEP_MS, _GROUP_MS = 2, 4
"""Changes that come within 2 ms of each other are told together, none later than after 4 ms."""
_ALIVE_MS = 500


class Watch:
    """Asks the operating system to be told of changes, or looks every so often.

    Looking is for folders of other machines, of whose changes the system does not know; it is
    also what is left where the system refuses.
    """

    def __init__(
        self,
        root: Path,
        folders: Callable[[], Iterable[Path]],
        tell: Tell,
        note: Callable[[str], None],
        poll_s: float | None,
    ) -> None:
        self._root = root
        self._folders = folders
        self._tell = tell
        self._note = note
        self._poll_s = poll_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; nothing is told afterwards."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        if self._poll_s is None:
            self._be_told()
        self._look_every(self._poll_s or _LOOK_S)

    def _be_told(self) -> None:
        """Until it is stopped, or the system has no more watches or no such folder."""
        from watchfiles import watch  # noqa: PLC0415  (only where files are followed)

        try:
            for changes in watch(
                self._root,
                watch_filter=None,
                step=_STEP_MS,
                debounce=_GROUP_MS,
                stop_event=self._stopping,
                rust_timeout=_ALIVE_MS,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self._tell({Path(path).parent for _, path in changes})
        except (OSError, RuntimeError) as error:
            self._note(f"{self._root}: not told of changes ({error}); looking every {_LOOK_S:g} s")

    def _look_every(self, seconds: float) -> None:
        seen: dict[Path, tuple[DayFolder, DayFile | None]] = {}
        while not self._stopping.wait(seconds):
            changed = set()
            for path in self._folders():
                folder, before = seen.get(path) or (DayFolder(path), None)
                files = folder.files()
                newest = files[-1] if files else None
                seen[path] = folder, newest
                if newest != before:
                    changed.add(path)
            if changed:
                self._tell(changed)
