"""A model of a disk that loses power, and a recorder of what a process asks of it.

The recorder replaces the functions of `os` that change files while a block runs; whatever touches
`derived/`, `quarantine/` or `state/` of one vault is really done and noted, in order. At any
point `Disk` knows what is *durable* and what is only *pending*, and makes images of what a
machine may find after the power came back. The rules, harsher than today's journaling file
systems but allowed by POSIX:

- Bytes written are pending until an fsync of that file. Each pending write may be there, lost,
  torn (only its beginning is there), zeros or garbage; the same holds for each pending
  truncation (there or lost). They are chosen independently, so later ones may survive earlier
  ones. Bytes outside the range of a write are never harmed (powersafe overwrite).
- An fsync of a file says nothing about its name. Creating, renaming and removing a name (and a
  directory) are pending until an fsync of the directory, of the target's one for a rename. Each
  pending one may have happened or not, independently of the others; a rename is never half done.
- Hence a renamed file whose content was not synced may be empty or garbage, and a synced file
  may have no name. What lies in a directory without a name is lost with it.
- After an fsync that failed, the bytes it should have saved are gone from the disk's point of
  view although reading still shows them: no later fsync brings them back, only writing them
  again does.
- What is durable stays. Raw files are the collector's and are not touched, unless a recorder is
  told to note what happens to them too.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Name = tuple[str, str]
"""(directory, entry), the directory as a path below the vault, "" for the vault itself."""

DIRECTORY = 0
TOPS = ("derived", "quarantine", "state")


class KilledError(BaseException):
    """The recorded process is dead; nothing it does afterwards reaches the disk."""


@dataclass(frozen=True, slots=True)
class Op:
    """One change of the disk, or one request to make changes durable.

    kind is one of create, write, truncate, sync, sync_dir, rename, unlink, mkdir, rmdir, doom.
    `node` is the file (0 for directories).
    """

    kind: str
    node: int = DIRECTORY
    name: Name = ("", "")
    target: Name = ("", "")
    at: int = 0
    data: bytes = b""

    def __str__(self) -> str:
        where = "/".join(self.target if self.kind == "rename" else self.name)
        return f"{self.kind} {where}"


# -- the disk --------------------------------------------------------------


@dataclass
class _File:
    durable: bytes = b""
    pending: list[tuple[Op, bool]] = field(default_factory=list)


Image = dict[str, bytes | None]
"""{path below the vault: content, None for a directory}."""

STYLES = ("nothing", "names only", "contents only", "garbage", "zeros", "names and garbage")
"""Images made by rule; any other style is chosen at random, operation by operation."""


class Disk:
    """What is durable and what is pending after some operations."""

    def __init__(self, start: Image | None = None) -> None:
        self.names: dict[Name, int] = {}
        self.files: dict[int, _File] = {}
        self.pending: list[Op] = []
        for path, content in (start or {}).items():
            name = split(path)
            node = DIRECTORY
            if content is not None:
                node = -1 - len(self.files)
                self.files[node] = _File(content)
            self.names[name] = node

    def apply(self, op: Op) -> None:
        """One operation more."""
        if op.kind in ("write", "truncate"):
            self._file(op.node).pending.append((op, False))
        elif op.kind == "sync":
            file = self._file(op.node)
            kept = [each for each, doomed in file.pending if not doomed]
            file.durable = contents(file.durable, [(each, "kept", 0) for each in kept])
            file.pending = []
        elif op.kind == "doom":
            file = self._file(op.node)
            file.pending = [(each, True) for each, _ in file.pending]
        elif op.kind == "sync_dir":
            folder = "/".join(op.name).strip("/")
            rest = []
            for each in self.pending:
                owner = each.target[0] if each.kind == "rename" else each.name[0]
                if owner == folder:
                    rename(self.names, each)
                else:
                    rest.append(each)
            self.pending = rest
        else:
            self._file(op.node)
            self.pending.append(op)

    def image(self, style: str, rng: random.Random) -> Image:
        """What may be found when the power comes back now."""
        names = dict(self.names)
        for op in self.pending:
            if style in ("names only", "garbage", "zeros", "names and garbage"):
                keep = True
            elif style in ("nothing", "contents only"):
                keep = False
            else:
                keep = rng.random() < 0.5
            if keep:
                rename(names, op)
        return self._visible(names, style, rng)

    def _visible(self, names: dict[Name, int], style: str, rng: random.Random) -> Image:
        found: Image = {}
        children: dict[str, list[tuple[str, int]]] = {}
        for (folder, entry), node in names.items():
            children.setdefault(folder, []).append((entry, node))
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            for entry, node in children.get(folder, ()):
                path = f"{folder}/{entry}".lstrip("/")
                if node == DIRECTORY:
                    found[path] = None
                    waiting.append(path)
                else:
                    file = self.files[node]
                    fates = [
                        (op, _fate(style, doomed, rng), rng.random()) for op, doomed in file.pending
                    ]
                    found[path] = contents(file.durable, fates, rng)
        return found

    def _file(self, node: int) -> _File:
        return self.files.setdefault(node, _File())


def rename(names: dict[Name, int], op: Op) -> None:
    """Do one operation on names."""
    if op.kind in ("create", "mkdir"):
        names[op.name] = op.node
    elif op.kind == "rename":
        names[op.target] = op.node
        if names.get(op.name) == op.node:
            del names[op.name]
    elif names.get(op.name) == op.node:
        del names[op.name]


def _fate(style: str, doomed: bool, rng: random.Random) -> str:
    if style in ("nothing", "names only"):
        return "lost"
    if style == "contents only":
        return "lost" if doomed else "kept"
    if style in ("garbage", "names and garbage"):
        return "garbage"
    if style == "zeros":
        return "zeros"
    if doomed:
        return rng.choice(("lost", "garbage", "zeros"))
    return rng.choice(("lost", "kept", "torn", "zeros", "garbage"))


def contents(
    durable: bytes, fates: list[tuple[Op, str, float]], rng: random.Random | None = None
) -> bytes:
    """A file's bytes after pending operations met their fates."""
    data = bytearray(durable)
    for op, fate, share in fates:
        if fate == "lost":
            continue
        if op.kind == "truncate":
            if fate in ("kept", "zeros"):
                del data[op.at :]
                data.extend(bytes(op.at - len(data)))
            continue
        new = op.data
        if fate == "torn":
            new = new[: int(len(new) * share)]
        elif fate == "zeros":
            new = bytes(len(new))
        elif fate == "garbage" and rng is not None:
            new = rng.randbytes(len(new))
        if new:
            data.extend(bytes(max(0, op.at - len(data))))
            data[op.at : op.at + len(new)] = new
    return bytes(data)


def split(path: str) -> Name:
    """A path below the vault as folder and entry."""
    folder, _, entry = path.rpartition("/")
    return folder, entry


# -- the recorder ----------------------------------------------------------


_PATCHED = (
    *("_open", "_close", "_write", "_pwrite", "_ftruncate", "_truncate", "_fsync", "_fdatasync"),
    *("_replace", "_rename", "_unlink", "_remove", "_mkdir", "_rmdir"),
)

Hook = Callable[[int, Op], None]
"""Called before each operation with its number; what it raises, the process meets."""


class Recorder:
    """Notes every change of one vault that goes through `os`."""

    def __init__(self, vault: Path, tops: Sequence[str] = TOPS) -> None:
        self.root = str(vault)
        self.tops = tops
        self.ops: list[Op] = []
        self.hook: Hook | None = None
        self.count = 0
        self.is_dead = False
        self.start: Image = snapshot(vault, tops)
        self._lock = threading.RLock()
        self._jobs: list[Future[Any]] = []
        self._real: dict[str, Any] = {}
        self._nodes: dict[str, int] = {}
        self._handles: dict[int, str] = {}
        self._next = 1
        for node, path in enumerate(p for p, content in self.start.items() if content is not None):
            self._nodes[path] = -1 - node

    @contextmanager
    def recording(self, hook: Hook | None = None) -> Iterator[None]:
        """Record while the block runs; operations are counted from 0 for the hook.

        Jobs given to thread pools are waited for at the end: after a kill they find the disk
        dead, as the threads of a killed process would.
        """
        names = [name.removeprefix("_") for name in _PATCHED]
        self.hook, self.count, self.is_dead = hook, 0, False
        self._real = {name: getattr(os, name) for name in names}
        submit = ThreadPoolExecutor.submit

        def noted(pool: ThreadPoolExecutor, *arguments: Any, **more: Any) -> Future[Any]:
            self._jobs.append(submit(pool, *arguments, **more))
            return self._jobs[-1]

        ThreadPoolExecutor.submit = noted  # type: ignore[method-assign, assignment]
        try:
            for name in names:
                setattr(os, name, getattr(self, f"_{name}"))
            yield
        finally:
            wait(self._jobs)
            self._jobs.clear()
            ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]
            for name, real in self._real.items():
                setattr(os, name, real)
            self._handles.clear()

    def verify(self) -> None:
        """Everything that changed on disk has been noted: no write went another way."""
        disk = Disk(self.start)
        for op in self.ops:
            disk.apply(op)
        image: Image = {}
        names = dict(disk.names)
        for op in disk.pending:
            rename(names, op)
        for (folder, entry), node in names.items():
            path = f"{folder}/{entry}".lstrip("/")
            if node != DIRECTORY:
                file = disk.files[node]
                image[path] = contents(file.durable, [(op, "kept", 0) for op, _ in file.pending])
            else:
                image[path] = None
        real = snapshot(Path(self.root), self.tops)
        assert image == real, sorted(
            path for path in {*image, *real} if image.get(path, b"?") != real.get(path, b"?")
        )

    def _below(self, path: Any, folder: int | None = None) -> str | None:
        """The path below the vault if it is one of ours."""
        if isinstance(path, int):
            return self._handles.get(path)
        text = os.fsdecode(path)
        if folder is not None and not text.startswith("/"):
            base = self._handles.get(folder)
            text = f"{self.root}/{base}/{text}" if base is not None else text
        if not text.startswith(self.root + "/"):
            return None
        below = text[len(self.root) + 1 :]
        if below.split("/", 1)[0] not in self.tops or below.endswith(".lock"):
            return None
        return below

    def _note(self, op: Op, act: Callable[[], Any]) -> Any:
        with self._lock:
            return self._note_locked(op, act)

    def _note_locked(self, op: Op, act: Callable[[], Any]) -> Any:
        if self.is_dead:
            raise KilledError
        number, self.count = self.count, self.count + 1
        if self.hook is not None:
            try:
                self.hook(number, op)
            except KilledError:
                self.is_dead = True
                raise
            except OSError:
                if op.kind == "sync":
                    self.ops.append(Op("doom", op.node, op.name))
                raise
        done = act()
        self.ops.append(op)
        return done

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        below = self._below(path, dir_fd)
        real = self._real["open"]

        def act() -> int:
            return int(real(path, flags, mode, dir_fd=dir_fd))

        if below is not None and flags & os.O_CREAT and below not in self._nodes:
            with self._lock:
                op = Op("create", self._next, split(below))
                handle = self._note(op, act)
                self._nodes[below] = self._next
                self._next += 1
        else:
            handle = act()
        if below is not None:
            self._handles[handle] = below
            assert not flags & os.O_TRUNC, "truncation by open is not modelled"
        return int(handle)

    def _close(self, handle: int) -> None:
        self._handles.pop(handle, None)
        self._real["close"](handle)

    def _write(self, handle: int, data: Any) -> int:
        below = self._handles.get(handle)
        if below is None:
            return int(self._real["write"](handle, data))
        at = os.lseek(handle, 0, os.SEEK_CUR)
        op = Op("write", self._nodes[below], split(below), at=at, data=bytes(data))
        return int(self._note(op, lambda: self._real["write"](handle, data)))

    def _pwrite(self, handle: int, data: Any, offset: int) -> int:
        below = self._handles.get(handle)
        if below is None:
            return int(self._real["pwrite"](handle, data, offset))
        op = Op("write", self._nodes[below], split(below), at=offset, data=bytes(data))
        return int(self._note(op, lambda: self._real["pwrite"](handle, data, offset)))

    def _truncate(self, path: Any, length: int) -> None:
        self._cut("truncate", path, length)

    def _ftruncate(self, handle: int, length: int) -> None:
        self._cut("ftruncate", handle, length)

    def _cut(self, name: str, path: Any, length: int) -> None:
        below = self._below(path)
        if below is None:
            self._real[name](path, length)
            return
        op = Op("truncate", self._nodes[below], split(below), at=length)
        self._note(op, lambda: self._real[name](path, length))

    def _fsync(self, handle: int) -> None:
        self._flush("fsync", handle)

    def _fdatasync(self, handle: int) -> None:
        self._flush("fdatasync", handle)

    def _flush(self, name: str, handle: int) -> None:
        below = self._handles.get(handle)
        if below is None:
            path = self._real_path(handle)
            if path != self.root:
                self._real[name](handle)
                return
            below = ""
        if below in self._nodes:
            op = Op("sync", self._nodes[below], split(below))
        else:
            op = Op("sync_dir", DIRECTORY, split(below))
        self._note(op, lambda: self._real[name](handle))

    @staticmethod
    def _real_path(handle: int) -> str:
        return str(Path(f"/proc/self/fd/{handle}").readlink())

    def _replace(self, source: Any, target: Any, **rest: Any) -> None:
        self._move("replace", source, target, rest)

    def _rename(self, source: Any, target: Any, **rest: Any) -> None:
        self._move("rename", source, target, rest)

    def _move(self, name: str, source: Any, target: Any, rest: dict[str, Any]) -> None:
        old, new = self._below(source), self._below(target)
        if old is None or new is None:
            self._real[name](source, target, **rest)
            return
        op = Op("rename", self._nodes[old], split(old), split(new))
        self._note(op, lambda: self._real[name](source, target, **rest))
        self._nodes[new] = self._nodes.pop(old)

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        below = self._below(path, dir_fd)
        if below is None or below not in self._nodes:
            self._real["unlink"](path, dir_fd=dir_fd)
            return
        op = Op("unlink", self._nodes[below], split(below))
        self._note(op, lambda: self._real["unlink"](path, dir_fd=dir_fd))
        del self._nodes[below]

    _remove = _unlink

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        below = self._below(path, dir_fd)
        if below is None or Path(self.root, below).is_dir():
            self._real["mkdir"](path, mode, dir_fd=dir_fd)
            return
        self._note(
            Op("mkdir", DIRECTORY, split(below)),
            lambda: self._real["mkdir"](path, mode, dir_fd=dir_fd),
        )

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        below = self._below(path, dir_fd)
        if below is None:
            self._real["rmdir"](path, dir_fd=dir_fd)
            return
        self._note(
            Op("rmdir", DIRECTORY, split(below)), lambda: self._real["rmdir"](path, dir_fd=dir_fd)
        )


def snapshot(vault: Path, tops: Sequence[str] = TOPS) -> Image:
    """What is below the recorded folders now."""
    found: Image = {}
    for top in tops:
        for folder, _, names in os.walk(vault / top):
            found[Path(folder).relative_to(vault).as_posix()] = None
            for name in names:
                path = Path(folder) / name
                if path.suffix != ".lock":
                    found[path.relative_to(vault).as_posix()] = path.read_bytes()
    return found


def write_image(image: Image, vault: Path) -> None:
    """Put an image where a pipeline can run on it."""
    for path in sorted(image):
        content = image[path]
        if content is None:
            (vault / path).mkdir(parents=True, exist_ok=True)
        else:
            (vault / path).write_bytes(content)


# -- hooks -----------------------------------------------------------------


def kill_at(number: int) -> Hook:
    """Die before an operation."""

    def hook(at: int, op: Op) -> None:
        del op
        if at == number:
            raise KilledError

    return hook


def fail_at(number: int, code: int = errno.EIO) -> Hook:
    """One operation fails."""

    def hook(at: int, op: Op) -> None:
        if at == number:
            raise OSError(code, os.strerror(code), "/".join(op.name))

    return hook
