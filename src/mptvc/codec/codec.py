"""The codec for whole videos in memory: frames to tokens, tokens to bytes, any prefix back to frames."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.patches import ClipCoder, CodedLevel
from mptvc.codec.rate import DEFAULT_RATE, Rate, RateControl
from mptvc.codec.stream import (
    Compressor,
    Decompressor,
    checked_levels,
    checked_shots,
    describe,
    require_weights,
)
from mptvc.format.bitstream import write_header
from mptvc.format.header import Header, Section, gains_of
from mptvc.model.model import Model


@dataclass(frozen=True)
class Tokens:
    """A video as integers.

    Attributes:
        levels: For each level uint8 ``[T, H, W, C]``: temporal slices of the whole video, the
            level's token grid, channels; values from 0 to ``config.levels[k].values[c] - 1``.
        header: Geometry, shots and tiles of the video.
    """

    levels: tuple[Tensor, ...]
    header: Header


@dataclass(frozen=True)
class DecodedVideo:
    """Frames from a file or a prefix of one.

    Attributes:
        frames: uint8 ``[T, H, W, 3]``.
        frame_rate: Mean frames a second.
        levels: Levels that were decoded.
        complete: Whether these are all levels of the file.
    """

    frames: np.ndarray
    frame_rate: Fraction
    levels: int
    complete: bool


class Codec:
    """Codes video with one set of weights; make one with `mptvc.load`.

    Attributes:
        clips: Codes single clips, for those who stream.

    Example:
        >>> import mptvc, numpy as np
        >>> codec = mptvc.load()
        >>> frames = np.zeros((5, 48, 64, 3), dtype=np.uint8)
        >>> tokens = codec.encode(frames)
        >>> [tuple(level.shape) for level in tokens.levels]
        [(2, 2, 2, 160), (2, 4, 4, 320), (2, 8, 8, 256)]
        >>> codec.decode(tokens, levels=1).shape
        (5, 48, 64, 3)
    """

    def __init__(self, clips: ClipCoder) -> None:
        self.clips = clips

    @property
    def model(self) -> Model:
        """The networks."""
        return self.clips.model

    def encode(
        self, frames: np.ndarray, *, shots: Sequence[int] | None = None, rate: Rate = DEFAULT_RATE
    ) -> Tokens:
        """Frames to tokens.

        Args:
            frames: uint8 ``[T, H, W, 3]``.
            shots: Frames of each shot; one shot by default (`mptvc.detect_shots` finds them).
            rate: How finely to quantize; the default gives every video tokens of the same meaning.

        Raises:
            ValueError: Wrong shape or dtype, or shots that do not sum to T.
        """
        header = self.clips.header(describe(frames, Fraction(25)), checked_shots(frames, shots))
        control = RateControl(rate, header.levels)
        clips = [self._encode_clip(frames, header, clip, control) for clip in range(header.clips)]
        coded = list(zip(*clips, strict=True))  # for each level its clips
        levels = tuple(self._to_tokens(k, [c.symbols for c in parts]) for k, parts in enumerate(coded))
        gains = gains_of([[c.gain for c in parts] for parts in coded])
        return Tokens(levels, replace(header, gains=gains))

    def _encode_clip(
        self, frames: np.ndarray, header: Header, clip: int, control: RateControl
    ) -> list[CodedLevel]:
        plan = header.plan(clip)
        before = header.plan(clip - 1).scenes[-1] if clip else -1
        overhead = header.header_share(clip, plan.scenes[-1] - before)
        control.start_clip(len(plan.kept) * frames[0].size // 3, overhead)
        return self.clips.encode_clip(frames[list(plan.frames)], header, plan.scenes, control)

    def _to_tokens(self, level: int, clips: list[Tensor]) -> Tensor:
        symbols = torch.cat(clips).to(self.clips.device)
        return self.model.level(level).fsq.to_symbols(symbols).cpu()

    def decode(self, tokens: Tokens, *, levels: int | None = None) -> np.ndarray:
        """Tokens to frames uint8 ``[T, H, W, 3]``, from the first ``levels`` levels."""
        header = tokens.header
        levels = checked_levels(levels, len(tokens.levels))
        parts = []
        for clip in range(header.clips):
            symbols = self._clip_symbols(tokens, clip)[:levels]
            parts.append(self.clips.decode_clip(symbols, header, clip)[header.plan(clip).kept])
        return np.concatenate(parts)

    def _clip_symbols(self, tokens: Tokens, clip: int) -> list[Tensor]:
        """Centred symbols of every level of one clip."""
        per_clip = tokens.header.clip_slices
        mine = slice(clip * per_clip, clip * per_clip + len(tokens.header.plan(clip).scenes))
        return [
            self.model.level(k).fsq.from_symbols(level[mine].to(self.clips.device))
            for k, level in enumerate(tokens.levels)
        ]

    def geometry(
        self, frames: int, height: int, width: int, *, frame_rate: Fraction = Fraction(25)
    ) -> Header:
        """The geometry of a video of one shot, for tokens that were made instead of encoded.

        Args:
            frames: Number of frames.
            height: Pixels.
            width: Pixels.
            frame_rate: Frames a second.

        Raises:
            ValueError: A number is out of range.
        """
        if frames < 1:
            raise ValueError(f"a video has at least one frame, found {frames}")
        one = np.broadcast_to(np.uint8(0), (1, max(0, height), max(0, width), 3))
        video = replace(describe(one, frame_rate), frames=frames)
        return self.clips.header(video, (frames,))

    def pack(self, tokens: Tokens, *, progress: Callable[[int, int], None] | None = None) -> bytes:
        """Tokens to the bytes of an ``.mpt`` file that decodes to them; ``decompress`` gives its frames.

        Args:
            tokens: Tokens of all levels, edited or generated ones too, and the geometry they belong to.
            progress: Called after each clip with the clips done and all of them.

        Raises:
            ValueError: Levels are missing, or a token is outside its channel's range or grid.
            WeightsError: The geometry belongs to other weights.
        """
        header = tokens.header
        require_weights(header, self.clips)
        self._check(tokens)
        packets: list[list[bytes]] = [[] for _ in tokens.levels]
        for clip in range(header.clips):
            symbols = self._clip_symbols(tokens, clip)
            for k, level in enumerate(symbols):
                packet = self.clips.pack_level(k, level, symbols[:k], header.plan(clip).scenes)
                packets[k].append(packet)
            if progress is not None:
                progress(clip + 1, header.clips)
        index = tuple(tuple(Section(len(p), crc32(p)) for p in level) for level in packets)
        header = replace(header, index=index, side=None, extra_bytes=0)
        return write_header(header) + b"".join(p for level in packets for p in level)

    def _check(self, tokens: Tokens) -> None:
        if len(tokens.levels) != tokens.header.levels:
            raise ValueError(f"{tokens.header.levels} levels are needed, found {len(tokens.levels)}")
        for k, level in enumerate(tokens.levels):
            values = torch.tensor(self.model.config.levels[k].values)
            shape = (tokens.header.slices, *tokens.header.grid(k), len(values))
            if tuple(level.shape) != shape or level.dtype != torch.uint8:
                raise ValueError(f"level {k} is uint8 {shape}, found {level.dtype} {tuple(level.shape)}")
            if bool((level.cpu() >= values).any()):
                raise ValueError(f"level {k} has a token above its channel's largest value")

    def compress(
        self,
        frames: np.ndarray,
        *,
        frame_rate: Fraction = Fraction(25),
        shots: Sequence[int] | None = None,
        rate: Rate = DEFAULT_RATE,
    ) -> bytes:
        """Frames to the bytes of an ``.mpt`` file; arguments as in ``encode``."""
        video, out = describe(frames, frame_rate), BytesIO()
        starts = set(np.cumsum(checked_shots(frames, shots)).tolist())
        with Compressor(self.clips, rate) as compressor:
            for index, frame in enumerate(frames):
                compressor.add(frame, is_cut=index in starts)
            compressor.finish(video, out)
        return out.getvalue()

    def decompress(self, data: bytes, *, levels: int | None = None) -> DecodedVideo:
        """The bytes of a file, or of a prefix of one, to frames.

        Args:
            data: The bytes.
            levels: Levels to decode; by default all that are complete.

        Raises:
            FormatError: The bytes are damaged, or no level is complete.
            WeightsError: The file was made with other weights.
            ValueError: More levels than the file has.
        """
        reader = Decompressor(self.clips, BytesIO(data), len(data), levels=levels)
        frames = np.concatenate([reader.frames(clip) for clip in range(reader.header.clips)])
        complete = reader.levels == reader.header.levels
        return DecodedVideo(frames, reader.header.video.frame_rate, reader.levels, complete)
