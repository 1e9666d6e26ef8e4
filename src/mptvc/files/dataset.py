"""A map-style torch dataset of windows of frames or tokens from many files."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mptvc.codec.codec import Codec
from mptvc.codec.weights import load_codec
from mptvc.files.reader import VideoReader
from mptvc.format.inspect import probe

_OPEN_FILES = 8


class VideoDataset(Dataset[Tensor | tuple[Tensor, ...]]):
    """Windows of a fixed number of frames from ``.mpt`` files, one after the other.

    Items are frames uint8 ``[frames, H, W, 3]``, or with ``tokens`` a tuple with the tokens of each level,
    uint8 ``[slices, h, w, C]``. A window never crosses files; what is left over at a file's end is left
    out. Use it with a `DataLoader` and any number of workers; each loads the weights once. Windows of 32
    frames that start at a multiple of 32 decode one clip where no cut is padded; others up to two.

    Args:
        paths: Files.
        frames: Frames of a window; with ``tokens`` a multiple of 4.
        stride: Frames from one window to the next; ``frames`` by default.
        levels: Levels to decode; all of the file by default.
        tokens: Give tokens instead of frames, counted in slices of four coded frames.
        weights: Weights as for `mptvc.load`.
        device: Device as for `mptvc.load`.

    Raises:
        FormatError: A file is damaged.
        MptError: A file cannot be opened.
        ValueError: A window or stride below 1, one of tokens that is no multiple of 4, or no file is long
            enough for a window.

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
        paths: Sequence[str | Path],
        *,
        frames: int = 32,
        stride: int | None = None,
        levels: int | None = None,
        tokens: bool = False,
        weights: str | Path | None = None,
        device: str = "cpu",
    ) -> None:
        stride = frames if stride is None else stride
        if frames < 1 or stride < 1:
            raise ValueError(f"frames and stride are 1 or more, found {frames} and {stride}")
        self.paths = [str(path) for path in paths]
        self._levels, self._tokens, self._weights, self._device = levels, tokens, weights, device
        self._windows: list[tuple[int, int]] = []
        self._length = frames
        for index, path in enumerate(self.paths):
            header = probe(path).header
            unit = header.shots.patch_frames if tokens else 1
            if frames % unit or stride % unit:
                raise ValueError(
                    f"windows of tokens are multiples of {unit} frames, found {frames} and {stride}"
                )
            self._length = frames // unit
            total = header.shots.num_slices if tokens else header.video.num_frames
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
        """
        file, start = self._windows[index]
        reader = _reader(self.paths[file], self._levels, self._weights, self._device)
        stop = start + self._length
        if self._tokens:
            return reader.all_tokens(start, stop)
        return torch.from_numpy(reader[start:stop])


@lru_cache(maxsize=2)
def _codec(weights: str | Path | None, device: str) -> Codec:
    """One codec a process, so that a dataset that travels to a worker carries no networks."""
    return load_codec(weights, device=device)


_readers: OrderedDict[tuple[object, ...], VideoReader] = OrderedDict()


def _reader(path: str, levels: int | None, weights: str | Path | None, device: str) -> VideoReader:
    """An open reader; the least recently used one is closed where there are too many."""
    found = os.stat(path)  # a file that was replaced is opened anew
    version = (found.st_ino, found.st_mtime_ns, found.st_size)
    # A forked worker would share the file's position.
    key = (path, version, levels, weights, device, os.getpid())
    if key not in _readers:
        _readers[key] = VideoReader(path, levels=levels, codec=_codec(weights, device))
        if len(_readers) > _OPEN_FILES:
            _readers.popitem(last=False)[1].close()
    _readers.move_to_end(key)
    return _readers[key]
