"""Where a corpus lies and where its shards go: folders on a disk, or behind an address through fsspec.

Every file appears whole or not at all. Of videos behind ``https://`` only the needed bytes are fetched.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from io import BufferedReader
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, cast

from mptvc.errors import MptError, VideoError
from mptvc.format.remote import RemoteFile, is_url
from mptvc.format.source import seekable
from mptvc.format.target import atomic_output, remove

#: Stores of objects in buckets, which need no folders: asked for one, they make the bucket too, whose name
#: may only be misspelled.
_BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}


def is_address(source: object) -> bool:
    """Whether a source is an address such as ``s3://bucket/file``, not a path."""
    return isinstance(source, str) and "://" in source


def optional(module: str, extra: str) -> Any:
    """A module that comes with an extra of the package.

    Raises:
        MptError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MptError(
            f"this needs {module.partition('.')[0]}: pip install 'mptvc[{extra}]' ({error})"
        ) from error


def file_system(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the address as a path in it.

    Raises:
        MptError: Its kind is unknown, or the package for it is missing.
    """
    try:
        return cast(tuple[Any, str], optional("fsspec.core", "corpus").url_to_fs(address))
    except (ImportError, ValueError) as error:
        raise MptError(f"{address}: {error}; pip install 'mptvc[corpus]'", file=address) from error


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """Turn what a file system raises, of any class, into an error of the package that names the address.

    Raises:
        MptError: Something went wrong.
    """
    try:
        yield
    except MptError:
        raise
    except FileNotFoundError as error:
        raise MptError(f"{address}: no such file", file=address) from error
    except Exception as error:  # every store's client has errors of its own
        text = " ".join(str(error).split()) or type(error).__name__
        raise MptError(text if address in text else f"{address}: {text}", file=address) from error


@contextmanager
def open_video(source: str) -> Iterator[Path | BinaryIO]:
    """A video as `VideoSource` takes it: its path, or a seekable file that reads from its address.

    Raises:
        MptError: The address cannot be opened.
    """
    if not is_address(source):
        video = Path(source)
        if video.exists() and not video.is_file():  # a pipe would wait for somebody, and a device never end
            raise VideoError(f"{source}: no file but a folder, a device or a pipe")
        yield video
        return
    if is_url(source):
        with cast(BinaryIO, RemoteFile(source)) as remote:
            yield remote
        return
    files, path = file_system(source)
    with reaching(source):
        opened: Any = BufferedReader(files.open(path, "rb"))
    opened.url = source  # for messages; a store's own file may have something else of that name
    with opened, seekable(opened) as file:
        yield file


def read_bytes(source: str) -> bytes:
    """All of a file, such as a manifest.

    Raises:
        VideoError: It cannot be read.
    """
    try:
        if is_url(source):
            with RemoteFile(source) as remote:
                return remote.read()
        if is_address(source):
            files, path = file_system(source)
            with reaching(source):
                return bytes(files.cat_file(path))
        return Path(source).read_bytes()
    except OSError as error:
        raise VideoError(f"{source}: {error.strerror or error}") from error


class Folder:
    """A folder whose files appear whole, by their names below it.

    Args:
        root: Path, or an address that fsspec can write to, of a store that takes objects as a whole.

    Raises:
        MptError: It is a file, or an address of an unknown kind.
        ValueError: The name is empty.
    """

    def __init__(self, root: str) -> None:
        if not root:
            raise ValueError("the output is a folder or an address, found an empty name")
        self.root = root = root.removeprefix("file://")
        self.is_local = not is_address(root)
        self._files: Any = None
        if not self.is_local:
            self._files, self._base = file_system(root)
        elif Path(root).exists() and not Path(root).is_dir():
            raise MptError(f"{root} is no folder; name another output", file=root)

    def path(self, name: str) -> Path:
        """The path of a file of a local folder."""
        return Path(self.root) / name

    def address(self, name: str) -> str:
        """What the file of a name is called outside."""
        return str(self.path(name)) if self.is_local else str(f"{self.root.rstrip('/')}/{name}")

    def _at(self, name: str) -> str:
        return f"{self._base.rstrip('/')}/{name}"

    def read(self, name: str) -> bytes | None:
        """All of a file; None where there is none.

        Raises:
            MptError: It cannot be read.
        """
        with reaching(self.address(name)):
            try:
                if self._files is None:
                    return self.path(name).read_bytes()
                return bytes(self._files.cat_file(self._at(name)))
            except (FileNotFoundError, NotADirectoryError):
                return None

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A file to read, seekable.

        Raises:
            MptError: It cannot be opened or read.
        """
        with reaching(self.address(name)), self._opened(name) as file:
            yield file

    def _opened(self, name: str) -> BinaryIO:
        if self._files is None:
            return open(self.path(name), "rb")
        return cast(BinaryIO, self._files.open(self._at(name)))

    def names(self, below: str) -> set[str]:
        """Names of files and folders in a folder inside, or in this one for "", without hidden ones.

        Raises:
            MptError: The folder cannot be listed.
        """
        with reaching(self.address(below)):
            if self._files is None:
                found = [path.name for path in self.path(below).glob("*")]
            else:
                self._files.invalidate_cache()
                listed: list[str] = []
                with suppress(FileNotFoundError):  # a store may know no empty folders
                    listed = self._files.ls(self._at(below).rstrip("/"), detail=False)
                found = [PurePosixPath(path).name for path in listed]
        return {name for name in found if name and not name.startswith(".")}

    @contextmanager
    def write(self, name: str) -> Iterator[BinaryIO]:
        """A file that has its name once the block ends without an error, in place of one before.

        Raises:
            MptError: It cannot be written.
        """
        if self._files is None:
            path = self.path(name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                why = f"cannot make {path.parent}: {error.strerror or error}"
                raise MptError(why, file=str(path.parent)) from error
            self.clear(name)
            with atomic_output(path, force=True) as file:
                yield file
            return
        with NamedTemporaryFile() as spool:
            yield cast(BinaryIO, spool)
            spool.flush()
            with reaching(self.address(name)):
                self._store(spool.name, name)

    def _store(self, local: str, name: str) -> None:
        """Copy a file from here to a store."""
        protocol = self._files.protocol
        if _BUCKETS.isdisjoint([protocol] if isinstance(protocol, str) else protocol):
            self._files.makedirs(self._files._parent(self._at(name)), exist_ok=True)
            self._files.put_file(local, self._at(name))
            return
        try:
            self._files.put_file(local, self._at(name))
        except FileNotFoundError as error:
            raise MptError(f"{self.root}: there is no such bucket; make it first", file=self.root) from error

    def clear(self, name: str) -> None:
        """Delete what somebody who was killed has left of a file that was to be written."""
        if self._files is None:
            path = self.path(name)
            for left in path.parent.glob(f".{escape(path.name[:50])}.*.part"):
                remove(left)

    def put(self, name: str, data: bytes) -> None:
        """Write a file; errors as for ``write``."""
        with self.write(name) as file:
            file.write(data)

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        if self._files is None:
            remove(self.path(name))
            return
        with suppress(FileNotFoundError), reaching(self.address(name)):
            if self._files.exists(self._at(name)):
                self._files.rm_file(self._at(name))
