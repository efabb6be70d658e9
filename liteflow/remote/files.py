"""The files that tasks on other machines need: the owner packs them once, and each agent has a copy in its folder."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any, Final

from liteflow.digest import sha256_hex
from liteflow.errors import DefinitionError, LiteflowError
from liteflow.remote.cluster import Cluster
from liteflow.remote.ferry import PIECE_BYTES
from liteflow.remote.link import Message
from liteflow.work import CopiedFolder

#: Bytes of all files of a cluster.
MOST_FILES_BYTES: Final = 64 * 1024 * 1024
_LEFT_OUT: Final = "__pycache__"


class InvalidFiles(LiteflowError):
    """The files have not arrived as they were sent."""


def packed_files(cluster: Cluster) -> bytes:
    """Return the files of a cluster as an archive; empty: it has none.

    Links are replaced by what they lead to, and pipes and devices are left out.

    Raises:
        DefinitionError: a file cannot be read, or they are too large.
    """
    if not cluster.files:
        return b""
    import tarfile  # few clusters have files

    size = 0

    def prepared(member: Any) -> Any:  # a `tarfile.TarInfo`
        nonlocal size
        if os.path.basename(member.name) == _LEFT_OUT or not (member.isfile() or member.isdir()):
            return None
        size += member.size
        if size > MOST_FILES_BYTES:
            raise DefinitionError(
                f"the files of the cluster have more than {MOST_FILES_BYTES >> 20} MiB, at {member.name}: put large "
                "data on a disk that all machines have, and pass its path"
            )
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", dereference=True) as archive:
        for name in cluster.files:
            try:
                archive.add(os.path.join(cluster.folder, name), name, filter=prepared)
            except OSError as error:
                raise DefinitionError(
                    f"the file {error.filename or name} of the cluster cannot be read: {error.strerror}"
                ) from None
    return data.getvalue()


def file_messages(data: bytes) -> Iterator[Message]:
    """Yield the messages that bring an archive to an agent; an empty one is none."""
    if not data:
        return
    for start in range(0, len(data), PIECE_BYTES):
        yield ("files", data[start : start + PIECE_BYTES])
    yield ("files_end", sha256_hex(data))


class FolderCopy:
    """The copy of the owner's folder on another machine, which has the files of the cluster.

    Attributes:
        copied: both folders; None: there are no files.
        is_complete: whether all files are there.
    """

    def __init__(self, original: str | None, copy: str) -> None:
        """Take the path of the folder on the owner's machine (None: there are no files), and that of its copy."""
        self.copied = None if original is None else CopiedFolder(original, copy)
        self._copy = copy
        self._arriving = bytearray()
        self.is_complete = original is None
        if original is not None:
            os.mkdir(copy, 0o700)

    def place(self, path: str) -> str:
        """Return the path that a path of the owner's machine has here."""
        return path if self.copied is None else self.copied.place(path)

    def make(self, path: str) -> str:
        """Return the path that a folder of the owner's machine has here; within the copy the folder is made."""
        placed = self.place(path)
        if placed != path:
            os.makedirs(placed, exist_ok=True)
        return placed

    def receive(self, data: bytes) -> None:
        """Take the next piece of the archive."""
        self._arriving += data

    def complete(self, digest: str) -> None:
        """Unpack the archive. Raises InvalidFiles: it differs from what was sent, or the disk is full."""
        import tarfile

        data = bytes(self._arriving)
        if sha256_hex(data) != digest:
            raise InvalidFiles("the files of the cluster have changed on their way")
        options: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                archive.extractall(self._copy, **options)
        except (OSError, tarfile.TarError) as error:
            raise InvalidFiles(f"the files of the cluster cannot be written: {error}") from None
        self._arriving = bytearray()
        self.is_complete = True
