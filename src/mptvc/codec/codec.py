"""The codec for whole videos in memory: frames to tokens, tokens to bytes, any prefix back to frames."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from itertools import accumulate
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.coder import ClipCoder, joined_frames
from mptvc.codec.decoder import Decompressor, checked_levels, require_weights
from mptvc.codec.encoder import Compressor, SectionStore, checked_lengths, describe, describe_size
from mptvc.codec.loop_coder import LoopCoder
from mptvc.codec.loop_tokens import LoopTokens
from mptvc.codec.patch_encoder import PatchEncoder
from mptvc.codec.patch_tokens import PatchTokens, grid_coder
from mptvc.codec.rate import DEFAULT_RATE, Rate
from mptvc.codec.settings import computing
from mptvc.codec.tokens import TOKENS, TokenForm, Tokens, dtype_name
from mptvc.errors import WeightsError
from mptvc.format.bitstream import read_header
from mptvc.format.frames import as_frames
from mptvc.format.header import Header, Layout
from mptvc.model.model import Model


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

    Args:
        coder: Codes single clips.
        others: Finds the coder of other weights that may have made a file, by their SHA-256.
        source: Makes it again in another process.

    Attributes:
        coder: Codes single clips, for those who stream.

    Example:
        >>> import mptvc, numpy as np
        >>> codec = mptvc.load("tokenizer")
        >>> frames = np.zeros((5, 48, 64, 3), dtype=np.uint8)
        >>> tokens = codec.encode(frames)
        >>> [tuple(level.shape) for level in tokens.levels]
        [(2, 2, 2, 160), (2, 4, 4, 320), (2, 8, 8, 256)]
        >>> codec.decode(tokens, levels=1).shape
        (5, 48, 64, 3)
    """

    def __init__(
        self,
        coder: ClipCoder,
        others: Callable[[bytes], ClipCoder | None] | None = None,
        source: "Callable[[], Codec] | None" = None,
    ) -> None:
        self.coder, self._others, self._source = coder, others, source

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process by name: it loads the weights again.

        Raises:
            TypeError: The codec was not made by `mptvc.load`.
        """
        if self._source is None:
            raise TypeError("a codec that mptvc.load has not made stays in its process")
        return _loaded_again, (self._source, self.coder.weights_id)

    @property
    def model(self) -> Model:
        """The networks of weights without prediction.

        Raises:
            WeightsError: The weights are of the other form.
        """
        return grid_coder(self.coder).model

    def coder_of(self, layout: Layout) -> ClipCoder:
        """The coder of the weights that a layout names, as far as this codec knows them; else its own."""
        if layout.weights_id != self.coder.weights_id and self._others is not None:
            return self._others(layout.weights_id) or self.coder
        return self.coder

    def encode(
        self,
        frames: np.ndarray,
        *,
        frame_rate: Fraction | float = Fraction(25),
        shots: Sequence[int] | None = None,
        rate: Rate = DEFAULT_RATE,
    ) -> Tokens:
        """Frames to tokens; with prediction, those of the file that ``compress`` makes.

        Args:
            frames: uint8 ``[T, H, W, 3]``, an array, a tensor in main memory or a list of pictures.
            frame_rate: Frames a second; it is kept beside the tokens.
            shots: Frames of each shot; one shot by default (`mptvc.detect_shots` finds them).
            rate: How finely to quantize; the default gives every video tokens of the same meaning.

        Raises:
            ValueError: Wrong shape or dtype, or shots that do not sum to T.
            MptError: A network returned a number that is not finite, or the memory is too small.
        """
        frames = as_frames(frames)
        if isinstance(self.coder, LoopCoder):
            return self.unpack(self.compress(frames, frame_rate=frame_rate, shots=shots, rate=rate))
        video, lengths = describe(frames, frame_rate), checked_lengths(shots, len(frames))
        encoder = PatchEncoder(grid_coder(self.coder), rate, packs=False)
        coded = [encoder.add(frame, is_cut=is_cut) for frame, is_cut in _with_cuts(frames, lengths)]
        clips = [levels for done in (*coded, encoder.finish()) for levels in done]
        levels = (self._to_tokens(k, [clip[k].symbols for clip in clips]) for k in range(len(clips[0])))
        gains = [[level.gain for level in clip] for clip in clips]
        return Tokens(tuple(levels), self.coder.layout(video, lengths, gains))

    @computing()
    def _to_tokens(self, level: int, clips: list[Tensor]) -> Tensor:
        symbols = torch.cat(clips).to(self.coder.device)
        return grid_coder(self.coder).model.level(level).fsq.to_symbols(symbols).cpu()

    def decode(self, tokens: Tokens, *, levels: int | None = None) -> np.ndarray:
        """Tokens to frames.

        Args:
            tokens: Tokens of the first one or more levels, edited or generated ones too; with prediction,
                with how frames are predicted.
            levels: Levels to use; by default all that are given.

        Returns:
            uint8 ``[T, H, W, 3]``.

        Raises:
            ValueError: A value is out of range, an array of another shape, or how frames are predicted does
                not fit together; there are too few levels.
            TypeError: They are no tokens.
            WeightsError: The tokens belong to other weights.
        """
        form = self._checked(tokens)
        levels = checked_levels(levels, len(tokens.levels))
        clips = range(tokens.layout.shots.num_clips)
        pieces = (piece for clip in clips for piece in form.pieces(tokens, levels, clip))
        return joined_frames(pieces, tokens.layout)

    def layout(
        self, num_frames: int, height: int, width: int, *, frame_rate: Fraction | float = Fraction(25)
    ) -> Layout:
        """The layout of a video of one shot, for tokens that are made instead of encoded.

        Args:
            num_frames: Number of frames.
            height: Pixels.
            width: Pixels.
            frame_rate: Frames a second.

        Raises:
            ValueError: A number is out of range.
        """
        return self.coder.layout(describe_size(num_frames, height, width, frame_rate), (num_frames,))

    def shape(self, layout: Layout, level: int) -> tuple[int, int, int, int]:
        """Shape of a level's tokens, (T, H, W, C)."""
        _, (count, height, width, channels) = self.form(layout).specification(layout, level)[TOKENS]
        return count, height, width, channels

    def pack(self, tokens: Tokens, *, progress: Callable[[int, int], None] | None = None) -> bytes:
        """Tokens to the bytes of an ``.mpt`` file that decodes to them; ``decompress`` gives its frames.

        Args:
            tokens: Tokens of all levels, edited or generated ones too, and the layout they belong to.
            progress: Called after each clip with the clips done and all of them.

        Raises:
            ValueError: Levels are missing, or as for ``decode``.
            WeightsError: The tokens belong to other weights.
        """
        out = BytesIO()
        self.pack_into(tokens, out, progress=progress)
        return out.getvalue()

    def pack_into(
        self,
        tokens: Tokens,
        out: BinaryIO,
        side_file: BinaryIO | None = None,
        lead_s: int = 0,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Header:
        """Write tokens of all levels, with sound, as ``Compressor.finish`` does; errors as for ``pack``."""
        form, layout = self.require_tokens(tokens), tokens.layout
        with SectionStore(layout.num_levels) as store:
            for clip in range(layout.shots.num_clips):
                store.add(form.sections(tokens, clip))
                if progress is not None:
                    progress(clip + 1, layout.shots.num_clips)
            return store.write(out, layout, side_file, lead_s)

    def unpack(self, data: bytes, *, levels: int | None = None) -> Tokens:
        """The bytes of a file, or of a prefix of one, to tokens; the way back from ``pack``.

        Args:
            data: The bytes.
            levels: Levels to take; by default all that are complete.

        Raises:
            FormatError: The bytes are damaged, or no level is complete.
            WeightsError: The file was made with other weights.
            ValueError: More levels than the file has.
        """
        reader = self._reader(data, levels)
        clips = range(reader.header.shots.num_clips)
        pieces = [
            [piece.arrays(level) for level in range(reader.levels)]
            for clip in clips
            for piece in reader.pieces(clip)
        ]
        joined = [
            {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            for parts in zip(*pieces, strict=True)
        ]
        return Tokens.of(joined, reader.header.layout)

    def form(self, layout: Layout) -> TokenForm:
        """What the weights that a layout names do with tokens.

        Raises:
            WeightsError: They are not those of this codec.
            FormatError: The layout is not one of those weights.
        """
        coder = self.coder_of(layout)
        require_weights(layout, coder)
        return LoopTokens(coder) if isinstance(coder, LoopCoder) else PatchTokens(grid_coder(coder))

    def require_tokens(self, tokens: Tokens) -> TokenForm:
        """What to do with tokens, if they are of all levels of their layout; errors as for ``pack``."""
        form, wanted = self._checked(tokens), tokens.layout.num_levels
        if len(tokens.levels) < wanted:
            raise ValueError(f"{wanted} levels are needed, found {len(tokens.levels)}")
        return form

    @computing()
    def _checked(self, tokens: Tokens) -> TokenForm:
        """What to do with tokens, which are those of the first levels of their layout, of known weights."""
        if not isinstance(tokens, Tokens) or not isinstance(tokens.layout, Layout):
            found = type(tokens).__name__
            raise TypeError(f"tokens are mptvc.Tokens with the layout of a video, found {found}")
        layout, form, count = tokens.layout, self.form(tokens.layout), len(tokens.levels)
        if not 1 <= count <= layout.num_levels:
            raise ValueError(f"tokens have 1 to {layout.num_levels} levels, found {count}")
        for k in range(count):
            arrays, wanted = tokens.arrays(k), form.specification(layout, k)
            if arrays.keys() != wanted.keys():
                raise ValueError(
                    f"level {k} has {', '.join(arrays)}; of these weights it has {', '.join(wanted)}"
                )
            for name, (dtype, shape) in wanted.items():
                what = f"level {k}" if name == TOKENS else f"{name} of level {k}"
                array = arrays[name]
                if not isinstance(array, Tensor) or array.is_meta:
                    found = type(array).__name__
                    raise TypeError(
                        f"{what} is a tensor {dtype_name(dtype)} {shape} with its data, found {found}"
                    )
                if tuple(array.shape) != shape or array.dtype != dtype:
                    found = f"{dtype_name(array.dtype)} {tuple(array.shape)}"
                    raise ValueError(f"{what} is {dtype_name(dtype)} {shape}, found {found}")
            form.check(k, arrays)
        return form

    def compress(
        self,
        frames: np.ndarray,
        *,
        frame_rate: Fraction | float = Fraction(25),
        shots: Sequence[int] | None = None,
        rate: Rate = DEFAULT_RATE,
    ) -> bytes:
        """Frames to the bytes of an ``.mpt`` file; arguments and errors as in ``encode``."""
        frames = as_frames(frames)
        video, out = describe(frames, frame_rate), BytesIO()
        with Compressor(self.coder, rate) as compressor:
            for frame, is_cut in _with_cuts(frames, checked_lengths(shots, len(frames))):
                compressor.add(frame, is_cut=is_cut)
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
        reader = self._reader(data, levels)
        header, clips = reader.header, range(reader.header.shots.num_clips)
        frames = joined_frames((piece for clip in clips for piece in reader.pieces(clip)), header)
        return DecodedVideo(
            frames, header.video.frame_rate, reader.levels, reader.levels == header.num_levels
        )

    def _reader(self, data: bytes, levels: int | None) -> Decompressor:
        file = BytesIO(data)
        header = read_header(file)
        return Decompressor(self.coder_of(header), file, len(data), levels=levels, header=header)


def _loaded_again(source: Callable[[], Codec], weights_id: bytes) -> Codec:
    """A codec from another process.

    Raises:
        WeightsError: Its weights are not there any more, or have changed.
    """
    codec = source()
    if codec.coder.weights_id != weights_id:
        expected, found = weights_id.hex(), codec.coder.weights_id.hex()
        raise WeightsError(
            f"the codec had the weights {expected}, where it was loaded from {found} are now",
            expected=expected,
            found=found,
        )
    return codec


def _with_cuts(frames: np.ndarray, lengths: tuple[int, ...]) -> Iterator[tuple[np.ndarray, bool]]:
    """Frames, and whether each starts a shot."""
    starts = set(accumulate(lengths, initial=0))
    return ((frame, index in starts) for index, frame in enumerate(frames))
