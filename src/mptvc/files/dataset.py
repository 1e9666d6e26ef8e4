"""A map-style torch dataset of windows of frames or tokens from many files."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mptvc.codec.codec import Codec
from mptvc.codec.plain_grid import NO_GRID
from mptvc.codec.weights import load_codec
from mptvc.errors import WeightsError
from mptvc.files.reader import VideoReader
from mptvc.files.samples import Sample, find_samples
from mptvc.files.tokens import read_tokens

#: Files that stay open while nobody reads from them.
_IDLE_FILES = 8


class VideoDataset(Dataset[Tensor | tuple[Tensor, ...]]):
    """Windows of a fixed number of frames from ``.mpt`` files, one after the other.

    Items are frames uint8 ``[frames, H, W, 3]``, or with ``tokens`` a tuple with the tokens of each level,
    uint8 ``[slices, h, w, C]``. A window never crosses files; what is left over at a file's end is left
    out. Use it with a `DataLoader` and any number of workers, or from several threads; each process loads the
    weights once. Windows of 32 frames that start at a multiple of 32 decode one clip where no cut is padded;
    others up to two.

    Args:
        paths: Files, by path or ``http(s)://`` address, shards of `mptvc tokenize`, or folders of both.
        frames: Frames of a window; with ``tokens`` a multiple of 4.
        stride: Frames from one window to the next; ``frames`` by default.
        levels: Levels to decode; all of the file by default.
        tokens: Give tokens instead of frames, counted in slices of four coded frames.
        weights: Weights as for `mptvc.load`.
        device: Device as for `mptvc.load`.
        stored: Give frames as they are stored; otherwise they are turned as their file says.

    Raises:
        FormatError: A file is damaged.
        MptError: A file cannot be opened.
        WeightsError: A file has no tokens.
        ValueError: A window or stride below 1, one of tokens that is no multiple of 4, no file is long
            enough for a window, or frames are asked of shards that hold tokens alone.

    Example:
        >>> import mptvc, numpy as np, pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> data = mptvc.load().compress(np.zeros((40, 32, 32, 3), dtype=np.uint8))
        >>> _ = (folder / "a.mpt").write_bytes(data)
        >>> windows = mptvc.VideoDataset([folder / "a.mpt"], frames=16)
        >>> len(windows), tuple(windows[1].shape)
        (2, (16, 32, 32, 3))
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        frames: int = 32,
        stride: int | None = None,
        levels: int | None = None,
        tokens: bool = False,
        weights: str | Path | None = None,
        device: str = "cpu",
        stored: bool = False,
    ) -> None:
        stride = frames if stride is None else stride
        if frames < 1 or stride < 1:
            raise ValueError(f"frames and stride are 1 or more, found {frames} and {stride}")
        self.paths = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        self._levels, self._tokens, self._weights, self._device = levels, tokens, weights, device
        self._stored = stored
        self._windows: list[tuple[int, int]] = []
        self._length = frames
        self._samples = [sample for path in self.paths for sample in find_samples(path)]
        for index, sample in enumerate(self._samples):
            unit = sample.slice_frames if tokens else 1
            if frames % unit or stride % unit:
                raise ValueError(
                    f"windows of tokens are multiples of {unit} frames, found {frames} and {stride}"
                )
            self._length = frames // unit
            total = _length(sample, tokens)
            starts = range(0, total - self._length + 1, stride // unit)
            self._windows += [(index, start) for start in starts]
        if not self._windows:
            raise ValueError(f"no file has {frames} frames")

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._windows)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, ...]:
        """Return one window.

        Raises:
            IndexError: There is no such window.
            FormatError: The file is damaged there.
            WeightsError: The file was made with other weights.
            MptError: The file cannot be opened or read.
        """
        number, start = self._windows[index]
        file = _File(self._samples[number], self._levels, self._weights, self._device, self._stored)
        stop = start + self._length
        with _readers.lend(file) as reader:
            if self._tokens or isinstance(reader, _Tokens):
                return reader.all_tokens(start, stop)
            return torch.from_numpy(reader[start:stop])


def _length(sample: Sample, tokens: bool) -> int:
    """Slices or frames of a sample."""
    if tokens and sample.slices is None:
        raise WeightsError(f"{sample.path}: {NO_GRID}")
    if not tokens and sample.kind != "mpt":
        raise ValueError(f"{sample.path} holds tokens and no frames: ask for tokens")
    return (sample.slices or 0) if tokens else sample.frames


class _Tokens:
    """Tokens that are stored as such, as a reader."""

    def __init__(self, data: bytes, levels: int | None) -> None:
        self._levels = read_tokens(data, levels)

    def all_tokens(self, start: int, stop: int) -> tuple[Tensor, ...]:
        return tuple(level[start:stop] for level in self._levels)

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class _File:
    """What a reader is opened with."""

    sample: Sample
    levels: int | None
    weights: str | Path | None
    device: str
    stored: bool

    def version(self) -> tuple[int, ...]:
        """What changes when the file is replaced; nothing of an address, whose reader notices that itself."""
        try:
            found = os.stat(self.sample.path)
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=2)
def _codec(weights: str | Path | None, device: str) -> Codec:
    """One codec a process, so that a dataset that travels to a worker carries no networks."""
    return load_codec(weights, device=device)


class _Readers:
    """The open readers of a process, each lent to one thread at a time."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: a forked process would share the files' positions, and a lock that another held."""
        self._lock = Lock()
        self._idle: list[tuple[object, VideoReader | _Tokens]] = []

    @contextmanager
    def lend(self, file: _File) -> "Iterator[VideoReader | _Tokens]":
        """A reader that nobody else uses meanwhile."""
        key = (file, file.version())
        reader = self._take(key)
        if reader is None:
            reader = self._opened(file)
        try:
            yield reader
        finally:
            self._give_back(key, reader)

    def _opened(self, file: _File) -> "VideoReader | _Tokens":
        source = file.sample.source()
        if file.sample.kind == "safetensors":
            return _Tokens(source if isinstance(source, bytes) else Path(source).read_bytes(), file.levels)
        with self._lock:  # threads that come together would each load the weights
            codec = _codec(file.weights, file.device)
        return VideoReader(source, levels=file.levels, codec=codec, stored=file.stored)

    def _take(self, key: object) -> "VideoReader | _Tokens | None":
        with self._lock:
            position = next((i for i, (other, _) in enumerate(self._idle) if other == key), None)
            return None if position is None else self._idle.pop(position)[1]

    def _give_back(self, key: object, reader: "VideoReader | _Tokens") -> None:
        """Keep a reader for the next who wants it, and close the one that has waited longest."""
        with self._lock:
            self._idle.append((key, reader))
            oldest = self._idle.pop(0)[1] if len(self._idle) > _IDLE_FILES else None
        if oldest is not None:
            oldest.close()


_readers = _Readers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_readers.forget)
