"""Frames to tokens, tokens to bytes, and any prefix of the bytes back to frames, clip by clip.

Knows tensors, tiles and packets; knows no path, no video file and no network. Memory is bounded by one
clip and one batch of tiles, whatever the length of the video.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from itertools import groupby
from tempfile import SpooledTemporaryFile
from typing import BinaryIO
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from mptvc.bitstream import (
    Availability,
    Header,
    Section,
    VideoInfo,
    availability,
    read_header,
    read_section,
    write_header,
)
from mptvc.config import TileGrid
from mptvc.entropy_coder import PacketReader, PacketWriter, Tables
from mptvc.errors import CorruptPacketError, FormatError, MptError, WeightsError
from mptvc.model import Model, fresh_slices
from mptvc.pyramid import expand, reduce
from mptvc.tiling import Tile, choose_grid, tiles

#: Largest core of a tile that is chosen automatically, in tokens (height, width).
CORE_TOKENS = (144, 256)
#: Smallest core that may be asked for, in tokens.
SMALLEST_CORE = 16
_SPOOL_BYTES = 2**25
#: Pixels of the coarser level that ``expand`` reads beyond a tile.
_HALO = 2


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
    """A model with everything that is needed to code video with it.

    Make one with `mptvc.load`.

    Args:
        model: Networks, in evaluation mode on their device.
        entropy_id: SHA-256 of the weights' entropy-relevant part.
        weights_id: SHA-256 of the whole weights.
        dtype: Type of the networks' matrix products; the entropy model is exact in any case.
        tile: Largest (height, width) of a tile's core in pixels of a level; None chooses.
        tile_batch: Tiles that the networks see at once; more is faster on a GPU and takes memory.

    Raises:
        ValueError: The tile is too small or the batch is below 1.
    """

    def __init__(
        self,
        model: Model,
        *,
        entropy_id: bytes,
        weights_id: bytes,
        dtype: torch.dtype = torch.float32,
        tile: tuple[int, int] | None = None,
        tile_batch: int = 1,
    ) -> None:
        self.model, self.config = model, model.config
        self.entropy_id, self.weights_id = entropy_id, weights_id
        self.dtype, self.tile_batch = dtype, tile_batch
        self.device = next(model.parameters()).device
        patch = self.config.patch_size
        self._core = CORE_TOKENS if tile is None else (tile[0] // patch, tile[1] // patch)
        if min(self._core) < SMALLEST_CORE:
            raise ValueError(f"a tile is at least {SMALLEST_CORE * patch} pixels wide and high")
        if tile_batch < 1:
            raise ValueError("tile_batch is at least 1")
        self._tables = [
            Tables(model.level(k).entropy_model.frequencies.cpu().numpy())
            for k in range(len(self.config.levels))
        ]

    # Whole videos in memory

    def encode(self, frames: np.ndarray, *, shots: Sequence[int] | None = None) -> Tokens:
        """Frames to tokens.

        Args:
            frames: uint8 ``[T, H, W, 3]``.
            shots: Frames of each shot; one shot by default (`mptvc.detect_shots` finds them).

        Raises:
            ValueError: Wrong shape or dtype, or shots that do not sum to T.
        """
        header = self._header(_describe(frames, Fraction(25)), _checked_shots(frames, shots))
        clips = [self.encode_clip(frames[list(plan.frames)], header, plan.scenes)
                 for plan in map(header.plan, range(header.clips))]  # fmt: skip
        levels = tuple(
            self.model.level(k).fsq.to_symbols(torch.cat(parts).to(self.device)).cpu()
            for k, parts in enumerate(zip(*clips, strict=True))
        )
        return Tokens(levels, header)

    def decode(self, tokens: Tokens, *, levels: int | None = None) -> np.ndarray:
        """Tokens to frames uint8 ``[T, H, W, 3]``, from the first ``levels`` levels."""
        header = tokens.header
        levels = _checked_levels(levels, len(tokens.levels))
        per_clip = self.config.clip_slices
        parts = []
        for clip in range(header.clips):
            plan = header.plan(clip)
            mine = slice(clip * per_clip, clip * per_clip + len(plan.scenes))
            symbols = [
                self.model.level(k).fsq.from_symbols(tokens.levels[k][mine].to(self.device))
                for k in range(levels)
            ]
            parts.append(self.decode_clip(symbols, header, plan.scenes)[plan.kept])
        return np.concatenate(parts)

    def compress(
        self,
        frames: np.ndarray,
        *,
        frame_rate: Fraction = Fraction(25),
        shots: Sequence[int] | None = None,
    ) -> bytes:
        """Frames to the bytes of an ``.mpt`` file; arguments as in ``encode``."""
        compressor = Compressor(self)
        starts = set(np.cumsum(_checked_shots(frames, shots)).tolist())
        for index, frame in enumerate(frames):
            compressor.add(frame, is_cut=index in starts)
        out = BytesIO()
        compressor.finish(_describe(frames, frame_rate), out)
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
        reader = Decompressor(self, BytesIO(data), len(data), levels=levels)
        frames = np.concatenate([reader.frames(clip) for clip in range(reader.header.clips)])
        complete = reader.levels == reader.header.levels
        return DecodedVideo(frames, reader.header.video.frame_rate, reader.levels, complete)

    # One clip

    def _header(self, video: VideoInfo, shots: tuple[int, ...]) -> Header:
        """A header without sections."""
        config = self.config
        none = TileGrid(1, 1, 0)
        header = Header(
            video=video,
            shots=shots,
            patch_frames=config.patch_frames,
            patch_size=config.patch_size,
            clip_frames=config.clip_frames,
            tiles=(none,) * len(config.levels),
            entropy_id=self.entropy_id,
            weights_id=self.weights_id,
            index=(),
        )
        grids = (choose_grid(*header.grid(k), self._core) for k in range(len(config.levels)))
        return replace(header, tiles=tuple(grids))

    @torch.no_grad()
    def encode_clip(
        self, frames: np.ndarray, header: Header, scenes: tuple[int, ...]
    ) -> list[Tensor]:
        """Coded frames uint8 ``[F, H, W, 3]`` to centred symbols of every level.

        Returns:
            For each level float32 ``[F / patch_frames, h, w, C]``.

        Raises:
            MptError: A network returned a number that is not finite.
        """
        pictures = self._pyramid(torch.from_numpy(frames).to(self.device), header)
        shots = torch.tensor([scenes], device=self.device)
        symbols: list[Tensor] = []
        x_hat = None
        for k, picture in enumerate(pictures):
            symbols.append(self._analyse(k, picture, x_hat, header, shots))
            if k + 1 < len(pictures):
                x_hat = self._synthesise(k, symbols[k], x_hat, header, shots)
        return symbols

    def pack_level(self, level: int, symbols: list[Tensor], scenes: tuple[int, ...]) -> bytes:
        """The packet of one level of one clip, from the symbols of this level and the coarser ones."""
        writer = PacketWriter(self._tables[level])
        self._code(level, writer, symbols[level].shape[:3], symbols[:level], scenes, symbols[level])
        return writer.finish()

    def unpack_level(
        self, level: int, packet: bytes, header: Header, coarser: list[Tensor], clip: int
    ) -> Tensor:
        """Centred symbols ``[T, h, w, C]`` of one level of one clip.

        Raises:
            CorruptPacketError: The packet does not fit the geometry.
        """
        scenes = header.plan(clip).scenes
        shape = (len(scenes), *header.grid(level))
        try:
            reader = PacketReader(self._tables[level], packet)
            symbols = self._code(level, reader, shape, coarser, scenes, None)
            reader.finish()
        except ValueError as error:
            offset = header.offset(level, clip)
            raise CorruptPacketError(str(error), level=level, clip=clip, offset=offset) from error
        return symbols

    def _code(
        self,
        level: int,
        coder: PacketWriter | PacketReader,
        shape: Sequence[int],
        coarser: list[Tensor],
        scenes: tuple[int, ...],
        q: Tensor | None,
    ) -> Tensor:
        fresh = fresh_slices(torch.tensor([scenes]))[0].tolist()
        parent = coarser[level - 1] if level else None
        grid = (shape[0], shape[1], shape[2])
        return self.model.level(level).entropy_model.code(coder, grid, parent, fresh, q)

    @torch.no_grad()
    def decode_clip(
        self,
        symbols: list[Tensor],
        header: Header,
        scenes: tuple[int, ...],
        *,
        source_size: bool = True,
    ) -> np.ndarray:
        """Centred symbols of the first levels to coded frames.

        Args:
            symbols: For each decoded level ``[T, h, w, C]``.
            header: Geometry.
            scenes: Shot number of each slice.
            source_size: Enlarge to the source's size; otherwise the last level's own size.

        Returns:
            uint8 ``[F, H, W, 3]``.
        """
        shots = torch.tensor([scenes], device=self.device)
        x_hat = None
        for k, level_symbols in enumerate(symbols):
            x_hat = self._synthesise(k, level_symbols.to(self.device), x_hat, header, shots)
        if x_hat is None:
            raise ValueError("at least one level is needed")
        doublings = header.levels - len(symbols)
        size = level_size(header, len(symbols) if not source_size else header.levels)
        frames = np.empty((x_hat.shape[1], *size, 3), dtype=np.uint8)
        for t in range(x_hat.shape[1]):
            frame = x_hat[:, t].float()
            for _ in range(doublings if source_size else 0):
                frame = expand(frame)
            frame = ((frame[:, : size[0], : size[1]] + 1) * 127.5).round_().clamp_(0, 255)
            frames[t] = frame.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return frames

    # Tiles

    def _pyramid(self, source: Tensor, header: Header) -> list[Tensor]:
        """Pictures of all levels, coarsest first: uint8 at source size, half floats above."""
        pictures = [source.permute(3, 0, 1, 2)]  # [3, F, H, W]
        for k in range(header.levels - 1, 0, -1):
            finer = pictures[0]
            height, width = (n * header.patch_size for n in header.grid(k))
            frames = [reduce(_pixels(finer[:, t], height, width)) for t in range(finer.shape[1])]
            pictures.insert(0, torch.stack([f.half() for f in frames], 1))
        return pictures

    def _analyse(
        self, k: int, picture: Tensor, coarser: Tensor | None, header: Header, scenes: Tensor
    ) -> Tensor:
        """Symbols ``[T, h, w, C]`` of a level: tiles are blended before they are quantized."""
        level, patch = self.model.level(k), self.config.patch_size
        height, width = header.grid(k)
        shape = (scenes.shape[1], height, width, self.config.levels[k].channels)
        blended = torch.zeros(shape, device=self.device)
        for batch in self._batches(header, k):
            x = torch.stack([_tile_pixels(picture, tile, patch) for tile in batch])
            base = _tile_bases(coarser, batch, patch)
            with self._arithmetic():
                latents = level.analyse(x, base, scenes.expand(len(batch), -1))
            for tile, tile_latents in zip(batch, latents, strict=True):
                if not bool(torch.isfinite(tile_latents).all()):
                    raise MptError(
                        f"level {k}: the network returned a number that is not finite in the tile "
                        f"at ({tile.x.start * patch}, {tile.y.start * patch})"
                    )
                weights = tile.weights(1).to(self.device)[:, :, None]
                tile.tokens(blended).add_(tile_latents * weights)
        return level.fsq(blended)

    def _synthesise(
        self, k: int, symbols: Tensor, coarser: Tensor | None, header: Header, scenes: Tensor
    ) -> Tensor:
        """A level's picture, half floats ``[3, F, h, w]``: tiles are blended as pixels."""
        level, patch = self.model.level(k), self.config.patch_size
        height, width = (n * patch for n in header.grid(k))
        frames = scenes.shape[1] * self.config.patch_frames
        blended = torch.zeros(3, frames, height, width, dtype=torch.half, device=self.device)
        for batch in self._batches(header, k):
            y_hat = torch.stack([tile.tokens(symbols) for tile in batch])
            base = _tile_bases(coarser, batch, patch)
            with self._arithmetic():
                x_hat = level.synthesise(y_hat, base, scenes.expand(len(batch), -1))
            for tile, pixels in zip(batch, x_hat, strict=True):
                weights = tile.weights(patch).to(self.device)
                tile.pixels(blended, patch).add_(pixels.mul_(weights).half())
        return blended

    def _arithmetic(self) -> torch.autocast:
        low = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype if low else None, enabled=low)

    def _batches(self, header: Header, level: int) -> Iterator[list[Tile]]:
        """Tiles of one shape, ``tile_batch`` at a time; their order does not depend on it."""

        def shape(tile: Tile) -> tuple[int, int]:
            return tile.y.stop - tile.y.start, tile.x.stop - tile.x.start

        ordered = sorted(tiles(header.tiles[level], *header.grid(level)), key=shape)
        for _, group in groupby(ordered, key=shape):
            alike = list(group)
            for first in range(0, len(alike), self.tile_batch):
                yield alike[first : first + self.tile_batch]


class Compressor:
    """Takes frames one at a time and writes the file at the end.

    Packets wait in temporary files, one per level, because the file is level-major.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec, self._patch = codec, codec.config.patch_frames
        self._shots: list[int] = []
        self._buffer: np.ndarray | None = None
        self._filled = 0
        self._scenes: list[int] = []
        self._sections: list[list[Section]] = [[] for _ in codec.config.levels]
        self._spools = [SpooledTemporaryFile(_SPOOL_BYTES) for _ in codec.config.levels]
        self._header: Header | None = None

    def add(self, frame: np.ndarray, *, is_cut: bool = False) -> None:
        """Take the next frame, uint8 ``[H, W, 3]``; ``is_cut`` says that it starts a shot."""
        if self._buffer is None:
            self._start(frame)
            is_cut = True
        if is_cut:
            self._pad_shot()
            self._shots.append(0)
        self._shots[-1] += 1
        self._put(frame)

    def _start(self, frame: np.ndarray) -> None:
        video = _describe(frame[None], Fraction(25))
        self._header = self._codec._header(video, (1,))
        self._buffer = np.empty((self._codec.config.clip_frames, *frame.shape), dtype=np.uint8)

    def _put(self, frame: np.ndarray) -> None:
        if self._buffer is None:
            raise ValueError("no frame was added")
        if self._filled == len(self._buffer):
            self._flush()
        if frame.shape != self._buffer.shape[1:]:
            raise ValueError(f"a frame of {frame.shape} after frames of {self._buffer.shape[1:]}")
        if self._filled % self._patch == 0:
            self._scenes.append(len(self._shots) - 1)
        self._buffer[self._filled] = frame
        self._filled += 1

    def _pad_shot(self) -> None:
        """Repeat the last frame until the shot fills its last patch."""
        while self._filled % self._patch:
            self._put(self._buffer[self._filled - 1])  # type: ignore[index]

    def _flush(self) -> None:
        if self._buffer is None or self._header is None:
            return
        scenes = tuple(self._scenes)
        symbols = self._codec.encode_clip(self._buffer[: self._filled], self._header, scenes)
        for k, (sections, spool) in enumerate(zip(self._sections, self._spools, strict=True)):
            packet = self._codec.pack_level(k, symbols, scenes)
            sections.append(Section(len(packet), crc32(packet)))
            spool.write(packet)
        self._filled, self._scenes = 0, []

    def finish(self, video: VideoInfo, out: BinaryIO) -> Header:
        """Write the file.

        Args:
            video: Describes the source; its number of frames must be that of the frames added.
            out: Binary file, written from its current position to the end.

        Raises:
            ValueError: No frame was added, or ``video`` has another number of frames.
        """
        if self._header is None or sum(self._shots) != video.frames:
            raise ValueError(f"{sum(self._shots)} frames were added, the video has {video.frames}")
        self._pad_shot()
        self._flush()
        header = replace(
            self._header,
            video=video,
            shots=tuple(self._shots),
            index=tuple(tuple(sections) for sections in self._sections),
        )
        out.write(write_header(header))
        for spool in self._spools:
            spool.seek(0)
            while chunk := spool.read(2**20):
                out.write(chunk)
        self.close()
        return header

    def close(self) -> None:
        """Drop the temporary files."""
        for spool in self._spools:
            spool.close()


class Decompressor:
    """Decodes clips of a file or of a prefix of one.

    Args:
        codec: Codec with the file's weights.
        file: Seekable binary file.
        size_bytes: Bytes that the file holds.
        levels: Levels to decode; by default all that are complete.
        allow_partial: Also use a level's sections where the level is not complete.
        header: The file's header if the caller has read it already.

    Raises:
        FormatError: The file is damaged, or no level is complete.
        WeightsError: The file was made with other weights.
        ValueError: More levels than the file has.
    """

    def __init__(
        self,
        codec: Codec,
        file: BinaryIO,
        size_bytes: int,
        *,
        levels: int | None = None,
        allow_partial: bool = False,
        header: Header | None = None,
    ) -> None:
        self.header = header or read_header(file)
        self._codec, self._file, self._partial = codec, file, allow_partial
        require_weights(self.header, codec)
        there = availability(self.header, size_bytes)
        wanted = _checked_levels(levels, self.header.levels)
        usable = there.levels + (1 if allow_partial and there.clips else 0)
        if usable == 0 or (levels is not None and wanted > usable):
            raise FormatError(_missing(there, wanted if levels else 1), offset=size_bytes)
        self.levels = min(wanted, usable)

    def symbols(self, clip: int) -> list[Tensor]:
        """Centred symbols of one clip, for each level that is there, at most ``levels``."""
        found: list[Tensor] = []
        for level in range(self.levels):
            packet = read_section(self._file, self.header, level, clip)
            if packet is None:
                break
            found.append(self._codec.unpack_level(level, packet, self.header, found, clip))
        return found

    def frames(self, clip: int, *, source_size: bool = True) -> np.ndarray:
        """Source frames of one clip, uint8 ``[T, H, W, 3]``; none where nothing has arrived."""
        plan, symbols = self.header.plan(clip), self.symbols(clip)
        if not symbols:
            return np.empty((0, self.header.video.height, self.header.video.width, 3), np.uint8)
        coded = self._codec.decode_clip(symbols, self.header, plan.scenes, source_size=source_size)
        return coded[plan.kept]


def level_size(header: Header, levels: int) -> tuple[int, int]:
    """Height and width of the picture of the last of ``levels`` levels."""
    factor = 2 ** (header.levels - levels)
    return -(-header.video.height // factor), -(-header.video.width // factor)


def require_weights(header: Header, codec: Codec) -> None:
    """Check that a file was made with a codec's weights.

    Raises:
        WeightsError: It was not.
    """
    if header.weights_id != codec.weights_id:
        wanted, found = header.weights_id.hex(), codec.weights_id.hex()
        raise WeightsError(
            f"the file needs the weights {wanted}, these are {found}: name the right ones with "
            "--weights",
            expected=wanted,
            found=found,
        )


def _missing(there: Availability, wanted: int) -> str:
    share = f"{100 * there.next_share:.0f} %"
    have = f"{there.levels} complete, {share} of level {there.levels}"
    return f"the file is cut: {wanted} levels are needed, it has {have}; use fewer levels"


def _pixels(frame: Tensor, height: int, width: int) -> Tensor:
    """Pixels ``[..., h, w]`` as float32 in [-1, 1], extended to ``height x width`` at the edges."""
    rows = torch.arange(height, device=frame.device).clamp_max(frame.shape[-2] - 1)
    columns = torch.arange(width, device=frame.device).clamp_max(frame.shape[-1] - 1)
    return _to_float(frame[..., rows[:, None], columns])


def _to_float(pixels: Tensor) -> Tensor:
    if pixels.dtype == torch.uint8:
        return pixels.float().div_(127.5).sub_(1)
    return pixels.float()


def _tile_pixels(picture: Tensor, tile: Tile, patch: int) -> Tensor:
    """A tile's pixels ``[3, F, h, w]`` as float32, repeating the picture's last row and column."""
    inside = _to_float(tile.pixels(picture, patch))
    height = (tile.y.stop - tile.y.start) * patch
    width = (tile.x.stop - tile.x.start) * patch
    missing = (0, width - inside.shape[-1], 0, height - inside.shape[-2])
    return torch.nn.functional.pad(inside, missing, mode="replicate") if any(missing) else inside


def _tile_bases(coarser: Tensor | None, batch: list[Tile], patch: int) -> Tensor | None:
    """The expanded coarser reconstruction under each tile ``[B, 3, F, h, w]``."""
    if coarser is None:
        return None
    return torch.stack([_tile_base(coarser, tile, patch) for tile in batch])


def _tile_base(coarser: Tensor, tile: Tile, patch: int) -> Tensor:
    spans, lead = [], []
    for span, size in ((tile.y, coarser.shape[-2]), (tile.x, coarser.shape[-1])):
        start = max(0, span.start * patch // 2 - _HALO)
        spans.append(slice(start, min(size, span.stop * patch // 2 + _HALO)))
        lead.append(span.start * patch - 2 * start)
    big = expand(coarser[..., spans[0], spans[1]].float())
    height = (tile.y.stop - tile.y.start) * patch
    width = (tile.x.stop - tile.x.start) * patch
    return big[..., lead[0] : lead[0] + height, lead[1] : lead[1] + width]


def _describe(frames: np.ndarray, frame_rate: Fraction) -> VideoInfo:
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or frames.size == 0:
        raise ValueError(f"frames are uint8 [T, H, W, 3], found {frames.dtype} {frames.shape}")
    count, height, width, _ = frames.shape
    return VideoInfo(width, height, count, frame_rate=frame_rate, time_base=1 / frame_rate)


def _checked_shots(frames: np.ndarray, shots: Sequence[int] | None) -> tuple[int, ...]:
    shots = (len(frames),) if shots is None else tuple(shots)
    if min(shots, default=0) < 1 or sum(shots) != len(frames):
        raise ValueError(f"shots {shots} do not add up to {len(frames)} frames")
    return shots


def _checked_levels(levels: int | None, most: int) -> int:
    if levels is None:
        return most
    if not 1 <= levels <= most:
        raise ValueError(f"levels is 1 to {most}, found {levels}")
    return levels
