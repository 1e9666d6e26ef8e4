"""Random access: frames and tokens of a file by number, decoding only the clips that are needed."""

import operator
from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from threading import RLock
from typing import NoReturn, Self, SupportsIndex, overload
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.codec import Codec
from mptvc.codec.decoder import Decompressor
from mptvc.codec.patch_tokens import grid_coder
from mptvc.codec.plain_grid import patch_shots
from mptvc.codec.settings import computing
from mptvc.codec.weights import load_codec
from mptvc.format.bitstream import read_header
from mptvc.format.header import VideoInfo
from mptvc.format.limits import DEFAULT_LIMITS, Limits
from mptvc.format.source import Source, naming, open_source
from mptvc.model.config import PyramidConfig
from mptvc.video.orientation import upright, upright_info


class _ClipFrames:
    """The frames of a clip, one piece at a time in memory.

    Attributes:
        clip: The clip.
        first: First frame that is still there.
    """

    def __init__(self, decompressor: Decompressor, clip: int) -> None:
        self.clip, self.first = clip, decompressor.header.shots.frames(clip).start
        self._pieces = decompressor.frames(clip)
        self._kept = next(self._pieces)

    def frame(self, index: int) -> np.ndarray:
        """A frame of the video uint8 ``[H, W, 3]``, not before ``first``."""
        while index >= self.first + len(self._kept):
            self.first += len(self._kept)
            self._kept = next(self._pieces)
        frame: np.ndarray = self._kept[index - self.first]
        return frame


class VideoReader:
    """Frames and tokens of an ``.mpt`` file or a prefix of one, by number.

    ``len(reader)`` is the number of frames, ``reader[i]`` a frame uint8 ``[H, W, 3]``, ``reader[a:b]`` frames
    uint8 ``[T, H, W, 3]``. Only the clips that hold them are read and decoded, with prediction only up to the
    slice that is needed. The last piece is kept, so that going through a file frame by frame decodes each
    clip once. Safe to use from several threads.

    Args:
        source: Path, ``http(s)://`` address, bytes or a seekable binary file. Of an address only the byte
            ranges are fetched that the levels asked for need.
        levels: Levels to decode; by default all that are complete.
        codec: Codec with the file's weights; by default one with the packaged weights.
        limits: What to accept.
        stored: Give pictures as they are stored; otherwise they are turned as the file says.

    Attributes:
        header: The file's header.
        levels: Levels that are decoded.
        num_slices: Temporal slices; a slice is up to four frames of one shot.

    Raises:
        FormatError: The source is damaged, or no level is complete.
        WeightsError: The source was made with other weights.
        MptError: The source cannot be opened.
        ValueError: More levels than the file has.

    Example:
        >>> import mptvc, numpy as np
        >>> codec = mptvc.load("tokenizer")
        >>> data = codec.compress(np.zeros((9, 48, 64, 3), dtype=np.uint8))
        >>> with mptvc.VideoReader(data, codec=codec) as reader:
        ...     len(reader), reader[4].shape, reader[2:5].shape, tuple(reader.tokens(0).shape)
        (9, (48, 64, 3), (3, 48, 64, 3), (3, 2, 2, 160))
    """

    def __init__(
        self,
        source: Source,
        *,
        levels: int | None = None,
        codec: Codec | None = None,
        limits: Limits = DEFAULT_LIMITS,
        stored: bool = False,
    ) -> None:
        self._source, self._lock, self._codec = source, RLock(), codec or load_codec()
        self._kept: _ClipFrames | None = None
        with ExitStack() as stack:
            file, size = stack.enter_context(open_source(source))
            header = read_header(file, limits)
            coder = self._codec.coder_of(header)
            self._decompressor = Decompressor(coder, file, size, levels=levels, header=header)
            self._finish = finalize(self, stack.pop_all().close)
        self.header, self.levels = header, self._decompressor.levels
        self.num_slices = header.shots.num_slices
        self._rotation = 0 if stored else header.video.rotation

    @property
    def video(self) -> VideoInfo:
        """What the file says of its source."""
        return self.header.video

    @property
    def config(self) -> PyramidConfig:
        """Sizes of the levels; without prediction ``config.levels[k].values`` has the values of channels."""
        return self._codec.coder_of(self.header).pyramid

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of all frames as they are given, (T, H, W, 3)."""
        shown = upright_info(self.video) if self._rotation else self.video
        return shown.num_frames, shown.height, shown.width, 3

    def __len__(self) -> int:
        """Number of frames."""
        return self.video.num_frames

    @overload
    def __getitem__(self, index: SupportsIndex) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice | Iterable[SupportsIndex]) -> np.ndarray: ...
    def __getitem__(self, index: SupportsIndex | slice | Iterable[SupportsIndex]) -> np.ndarray:
        """Return one frame uint8 ``[H, W, 3]``, or several ``[T, H, W, 3]``; -1 is the last.

        Args:
            index: A number, a slice, or numbers as a list, an array or a tensor.

        Raises:
            IndexError: There is no such frame.
            FormatError: The file is damaged there.
            TypeError: The index is none of these.
        """
        if isinstance(index, slice):
            return self._picked(range(*index.indices(len(self))))
        if isinstance(index, Iterable) and getattr(index, "ndim", 1) != 0:
            return self._picked([self._number(one) for one in index])
        frame: np.ndarray = self._picked([self._number(index)])[0]
        return frame

    def _number(self, index: object) -> int:
        """The number of a frame, counted from the first."""
        if isinstance(index, bool) or not isinstance(index, SupportsIndex):
            raise TypeError(f"a frame has a whole number, found {index!r}")
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"frame {number} of {len(self)}")
        return number % len(self)

    def frames_at(self, times: Iterable[float | Fraction]) -> np.ndarray:
        """The frames that are shown at times in seconds from the first frame, uint8 ``[T, H, W, 3]``.

        Times may be numbers, or an array or a tensor of them.

        Raises:
            IndexError: A time is before the first frame or not before the end of the last.
            FormatError: The file is damaged there.
        """
        return self._picked(
            [self.video.times.at(t if isinstance(t, int | float | Fraction) else float(t)) for t in times]
        )

    def _picked(self, indexes: range | list[int]) -> np.ndarray:
        out = np.empty((len(indexes), *self.shape[1:]), dtype=np.uint8)
        places: dict[int, list[int]] = {}
        for place, index in enumerate(indexes):
            places.setdefault(index, []).append(place)
        for index in sorted(places):
            with self._lock, naming(self._source):
                out[places[index]] = upright(self._frame(index), self._rotation)
        return out

    def _frame(self, index: int) -> np.ndarray:
        clip = self.header.shots.clip_at(index)
        kept, self._kept = self._kept, None  # pieces that fail are not kept: they have ended
        if kept is None or kept.clip != clip or index < kept.first:
            kept = None  # before the next is made: one at a time in memory
            kept = _ClipFrames(self._decompressor, clip)
        frame = kept.frame(index)
        self._kept = kept
        return frame

    def tokens(self, level: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Tokens of a level, uint8 ``[T, H, W, C]``, without running the transforms.

        Args:
            level: The level, 0 the coarsest; the tokens of coarser ones are decoded on the way.
            start: First temporal slice.
            stop: Slice after the last; all slices by default.

        Raises:
            ValueError: The level is not among those that are decoded.
            IndexError: The slices are not all in the video.
            FormatError: The file is damaged there.
        """
        if not 0 <= level < self.levels:
            raise ValueError(f"level is 0 to {self.levels - 1}, found {level}")
        return self._tokens([level], start, self.num_slices if stop is None else stop)[0]

    def all_tokens(self, start: int = 0, stop: int | None = None) -> tuple[Tensor, ...]:
        """Tokens of every decoded level, each packet decoded once; arguments as for `tokens`."""
        return self._tokens(list(range(self.levels)), start, self.num_slices if stop is None else stop)

    @computing()
    def _tokens(self, levels: list[int], start: int, stop: int) -> tuple[Tensor, ...]:
        if not 0 <= start <= stop <= self.num_slices:
            raise IndexError(f"slices {start} to {stop} of {self.num_slices}")
        coder = grid_coder(self._codec.coder_of(self.header))
        per_clip = patch_shots(self.header).clip_slices
        fsqs = [coder.model.level(level).fsq for level in levels]
        parts = [
            [torch.empty(0, *self.header.geometry.grid(level), len(fsq.halves), dtype=torch.uint8)]
            for level, fsq in zip(levels, fsqs, strict=True)
        ]
        for clip in range(start // per_clip, -(-stop // per_clip)) if start < stop else ():
            with self._lock, naming(self._source):
                symbols = self._decompressor.symbols(clip, max(levels) + 1)
            mine = slice(max(0, start - clip * per_clip), stop - clip * per_clip)
            for level, fsq, found in zip(levels, fsqs, parts, strict=True):
                found.append(fsq.to_symbols(symbols[level][mine].to(coder.device)).cpu())
        return tuple(torch.cat(found) for found in parts)

    def close(self) -> None:
        """Close the source if the reader has opened it."""
        with self._lock:
            self._finish()
            self._kept = None

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        raise TypeError(
            "a VideoReader stays in its process: open the file in the other one, or use VideoDataset"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
