"""Archives as streams: plain, gzip, zstd, zip, tar and tar.gz, told by their first bytes.

Whatever the archive carries to prove that it is whole (lengths, CRCs) is checked when its end is
reached; nothing that comes out of it may be put in place before.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec

from pipeline.errors import DataError, MissingInputError

AGAIN = "fetch the archive again, then run the same command"

_ZIP, _GZIP, _ZSTD, _PARQUET = b"PK", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_TAR, _TAR_AT, _TAR_BLOCK = b"ustar", 257, 512
_PIECE, _ZSTD_PIECE = 1 << 20, 1 << 17
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_LIBRARY = ("__MACOSX/", "._")


class Stream(Protocol):
    """Something to read from."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; none at the end."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive; `name` is empty where the archive is the file."""

    name: str
    stream: Stream


class Identity(msgspec.Struct, frozen=True):
    """What an archive is known by, whatever its name: its length and its CRC-32."""

    size: int
    crc: int


def check_there(path: Path) -> None:
    """Refuse an archive that is not there.

    Raises:
        MissingInputError: there is no such file.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file", "flowvault import --help")


def identify(path: Path) -> Identity:
    """Read an archive once; where a `.CHECKSUM` stands beside it, it must have that SHA-256.

    Raises:
        DataError: it has another one.
    """
    wanted = _published(path)
    digest = hashlib.sha256()
    crc = size = 0
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            crc = zlib.crc32(piece, crc)
            size += len(piece)
            if wanted is not None:
                digest.update(piece)
    if wanted is not None and digest.hexdigest() != wanted:
        raise DataError(
            f"{path}: its SHA-256 is {digest.hexdigest()}, {_beside(path).name} says {wanted}; "
            "nothing of it was imported",
            AGAIN,
        )
    return Identity(size, crc)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".CHECKSUM")


def _published(path: Path) -> str | None:
    """The checksum that was published with an archive."""
    try:
        text = _beside(path).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None
    found = _SHA256.search(text)
    if found is None:
        raise DataError(f"{_beside(path)}: no SHA-256 in it", "fetch it again, or delete it")
    return found[0].lower()


def has_checksum(path: Path) -> bool:
    """Whether a checksum was published with an archive."""
    return _beside(path).is_file()


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, by its first bytes."""
    return _head(path)[: len(_PARQUET)] == _PARQUET


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_TAR_BLOCK)


class Archive:
    """One archive, read once from its beginning to its end.

    `position` is how many of its bytes have been read so far, for a progress display.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self.crc = 0
        self._identity: Identity | None = None

    def identity(self) -> Identity:
        """What it is known by; it is read for that unless it has been read from end to end.

        Raises:
            DataError: a checksum was published with it, and it has another one.
        """
        if self._identity is None:
            self._identity = identify(self.path)
        return self._identity

    def members(self) -> Iterator[Member]:
        """The files in it, one after the other; each must be read before the next one.

        Raises:
            DataError: the archive is damaged or cut short, or cannot be read here.
        """
        with self._told():
            head = _head(self.path)
            if head.startswith(_ZIP):
                yield from self._of_zip()
                return
            with self._opened() as stream:
                yield from self._of_stream(stream, head)
                while stream.read(_PIECE):
                    pass  # whatever stands behind the end
            if self._identity is None and not has_checksum(self.path):
                self._identity = Identity(self.position, self.crc)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        with _Counted(self) as raw, io.BufferedReader(raw, _PIECE) as stream:
            yield stream

    def _of_stream(self, stream: Stream, head: bytes) -> Iterator[Member]:
        if head.startswith(_GZIP):
            stream = Peeked(_Gzip(stream))
        elif head.startswith(_ZSTD):
            stream = Peeked(_Zstd(stream))
        else:
            stream = Peeked(stream)
        if stream.peek(_TAR_BLOCK)[_TAR_AT : _TAR_AT + len(_TAR)] != _TAR:
            yield Member("", self.guarded(stream))
            return
        reader: Any = stream
        with tarfile.open(fileobj=reader, mode="r|", bufsize=_PIECE) as tar:
            for info in tar:
                if info.isfile() and not _is_litter(info.name):
                    content = tar.extractfile(info)
                    if content is not None:
                        yield Member(info.name, self.guarded(content))
        while stream.read(_PIECE):
            pass  # to the end, where the checks are

    def _of_zip(self) -> Iterator[Member]:
        with self._opened() as stream, zipfile.ZipFile(stream) as archive:
            names = [info for info in archive.infolist() if not info.is_dir()]
            for info in sorted(names, key=lambda each: each.filename):
                if _is_litter(info.filename):
                    continue
                if info.flag_bits & 1:
                    message = f"{self.path}: {info.filename} is encrypted"
                    raise DataError(message, "unpack it, then import the file in it")
                with archive.open(info) as content:
                    yield Member(info.filename, self.guarded(content))

    def guarded(self, stream: Stream) -> Stream:
        """The same stream, with the errors of damaged archives as ours."""
        told = self._told

        class Guarded:
            def read(self, size: int, /) -> bytes:
                with told():
                    return stream.read(size)

        return Guarded()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
            raise DataError(f"{self.path}: damaged archive: {error}", AGAIN) from error
        except NotImplementedError as error:
            raise DataError(
                f"{self.path}: {error}", "unpack it, then import the file in it"
            ) from error


class _Counted(io.FileIO):
    """The archive's file, which tells how much of it has been read."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(archive.path, "rb")
        self._archive = archive

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill a buffer."""
        count = super().readinto(buffer)
        if count:
            archive = self._archive
            archive.position += count
            archive.crc = zlib.crc32(memoryview(buffer)[:count], archive.crc)
        return count


def _is_litter(name: str) -> bool:
    """Whether a file is none of the archive's own, but of the system that packed it."""
    return name.startswith(_LIBRARY) or name.rpartition("/")[2].startswith(".")


class Peeked:
    """A stream of which the beginning can be looked at before it is read."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        """The next bytes, fewer only at the end."""
        while len(self._ahead) < size:
            piece = self._stream.read(max(size, _PIECE))
            if not piece:
                break
            self._ahead += piece
        return self._ahead[:size]

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        if not self._ahead:
            return self._stream.read(size)
        piece, self._ahead = self._ahead[:size], self._ahead[size:]
        return piece


class _Gzip:
    """A gzip stream of one or more members, read to the checks at their ends."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._member = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._is_between = True

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        while True:
            if not self._pending:
                self._pending = self._stream.read(_PIECE)
                if not self._pending:
                    if self._is_between:
                        return b""
                    raise EOFError("the gzip stream ends in the middle")
            if self._is_between:
                self._pending = self._pending.lstrip(b"\0")  # padding behind a member
                if not self._pending:
                    continue
                self._is_between = False
            piece = self._member.decompress(self._pending, size)
            self._pending = self._member.unconsumed_tail
            if self._member.eof:
                self._pending = self._member.unused_data
                self._member = zlib.decompressobj(wbits=31)
                self._is_between = True
            if piece:
                return piece


class _Zstd:
    """A zstd stream of one or more frames."""

    def __init__(self, stream: Stream) -> None:
        import zstandard  # noqa: PLC0415  (only where such archives exist)

        self._stream = stream
        self._new = zstandard.ZstdDecompressor().decompressobj
        self._error = zstandard.ZstdError
        self._frame = self._new()
        self._pending = b""
        self._is_between = True

    def read(self, size: int, /) -> bytes:
        """The next bytes, however many; none at the end."""
        while True:
            self._pending = self._pending or self._stream.read(min(size, _ZSTD_PIECE))
            if not self._pending:
                if self._is_between:
                    return b""
                raise EOFError("the zstd stream ends in the middle")
            try:
                piece: bytes = self._frame.decompress(self._pending)
            except self._error as error:
                raise EOFError(str(error)) from error
            self._pending, self._is_between = self._frame.unused_data, self._frame.eof
            if self._frame.eof:
                self._frame = self._new()
            if piece:
                return piece
