"""One clip: frames to symbols, symbols to packets, and back; large pictures in tiles.

Knows tensors, tiles and packets; knows no file. Memory is bounded by one clip and one batch of tiles.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import cast

import numpy as np
import torch
from torch import Tensor

from mptvc.config import TileGrid
from mptvc.entropy_coder import PacketReader, PacketWriter, Tables
from mptvc.errors import CorruptPacketError, MptError
from mptvc.header import Header, VideoInfo
from mptvc.model import Model, fresh_slices
from mptvc.pyramid import expand, reduce
from mptvc.rate import RateControl, gain_factor
from mptvc.tiling import Tile, choose_grid, expanded_tile, extended_pixels, tile_pixels, tiles
from mptvc.transforms import frame_into_patches, frame_of_patches

#: Largest core of a tile that is chosen automatically, in tokens (height, width).
CORE_TOKENS = (144, 256)
#: Smallest core that may be asked for, in tokens.
SMALLEST_CORE = 16
_WRONG_ROWS = (
    "the file is forged, or this machine computes the entropy model wrongly; then report `mptvc env`"
)


@dataclass(frozen=True)
class CodedLevel:
    """One level of one clip.

    Attributes:
        symbols: Centred symbols, float32 ``[T, h, w, C]``.
        packet: The packet that holds them.
        gain: How much finer than in training they are quantized.
    """

    symbols: Tensor
    packet: bytes
    gain: int


class ClipCoder:
    """A model with what is needed to code one clip with it.

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

    def header(self, video: VideoInfo, shots: tuple[int, ...]) -> Header:
        """A header for this model, without sections."""
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
        self,
        frames: np.ndarray,
        header: Header,
        scenes: tuple[int, ...],
        control: RateControl,
    ) -> list[CodedLevel]:
        """Coded frames to the symbols and packets of every level.

        Args:
            frames: uint8 ``[F, H, W, 3]``.
            header: Geometry.
            scenes: Shot number of each slice.
            control: Chooses the gains; it has started the clip.

        Raises:
            MptError: A network returned a number that is not finite.
        """
        pictures = self._pyramid(torch.from_numpy(frames).to(self.device), header)
        shots = torch.tensor([scenes], device=self.device)
        coded: list[CodedLevel] = []
        x_hat = None
        for k, picture in enumerate(pictures):
            latents = self._analyse(k, picture, x_hat, header, shots)
            coded.append(self._quantize(latents, coded, scenes, control))
            control.spend(k, len(coded[k].packet))
            if k + 1 < len(pictures):
                y_hat = coded[k].symbols.to(self.device) / gain_factor(coded[k].gain)
                x_hat = self._synthesise(k, y_hat, x_hat, header, shots)
        return coded

    def _quantize(
        self,
        latents: Tensor,
        coarser: list[CodedLevel],
        scenes: tuple[int, ...],
        control: RateControl,
    ) -> CodedLevel:
        """Latents of the next level to symbols and a packet, at the gain that rate control asks for."""
        level, parents = len(coarser), [c.symbols for c in coarser]
        tried: dict[int, CodedLevel] = {}

        def size_of(gain: int) -> int:
            writer = PacketWriter(self._tables[level])
            y = latents * gain_factor(gain) if gain else latents
            symbols = self._code(level, writer, y.shape[:3], parents, scenes, y)
            # Tried gains below this one fit and those above do not: only the largest below can still win.
            for other in sorted(tried, key=lambda g: (g < gain, g))[:-1]:
                del tried[other]
            tried[gain] = CodedLevel(symbols, writer.finish(), gain)
            return len(tried[gain].packet)

        def finest() -> int:
            return self.model.level(level).fsq.finest_gain(latents)

        gain = control.gain(level, finest, size_of)
        if gain not in tried:
            size_of(gain)
        return tried[gain]

    @torch.no_grad()
    def pack_level(
        self, level: int, symbols: Tensor, coarser: list[Tensor], scenes: tuple[int, ...]
    ) -> bytes:
        """The packet of one level of one clip from its centred symbols ``[T, h, w, C]``."""
        writer = PacketWriter(self._tables[level])
        shape = symbols.shape[:3]
        self._code(level, writer, shape, coarser, scenes, symbols.to(self.device), False)
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
            message = f"{error}, though its checksum is right: {_WRONG_ROWS}"
            raise CorruptPacketError(message, level=level, clip=clip, offset=offset) from error
        return symbols

    def _code(
        self,
        level: int,
        coder: PacketWriter | PacketReader,
        shape: Sequence[int],
        coarser: list[Tensor],
        scenes: tuple[int, ...],
        latents: Tensor | None,
        choose: bool = True,
    ) -> Tensor:
        fresh = fresh_slices(torch.tensor([scenes]))[0].tolist()
        parent = coarser[level - 1] if level else None
        grid = (shape[0], shape[1], shape[2])
        return self.model.level(level).entropy_model.code(coder, grid, parent, fresh, latents, choose=choose)

    @torch.no_grad()
    def decode_clip(
        self,
        symbols: list[Tensor],
        header: Header,
        clip: int,
        *,
        source_size: bool = True,
    ) -> np.ndarray:
        """Centred symbols of the first levels to coded frames.

        Args:
            symbols: For each decoded level ``[T, h, w, C]``.
            header: Geometry.
            clip: Number of the clip.
            source_size: Enlarge to the source's size; otherwise the last level's own size.

        Returns:
            uint8 ``[F, H, W, 3]``.
        """
        shots = torch.tensor([header.plan(clip).scenes], device=self.device)
        x_hat = None
        for k, level_symbols in enumerate(symbols):
            y_hat = level_symbols.to(self.device) / gain_factor(header.gain(k, clip))
            x_hat = self._synthesise(k, y_hat, x_hat, header, shots)
        if x_hat is None:
            raise ValueError("at least one level is needed")
        doublings = self.config.shrink(len(symbols) - 1).bit_length() - 1
        size = self.picture_size(header, len(symbols) if not source_size else header.levels)
        frames = np.empty((x_hat.shape[1], *size, 3), dtype=np.uint8)
        for t in range(x_hat.shape[1]):
            frame = x_hat[:, t].float()
            for _ in range(doublings if source_size else 0):
                frame = expand(frame)
            frame = ((frame[:, : size[0], : size[1]] + 1) * 127.5).round_().clamp_(0, 255)
            frames[t] = frame.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return frames

    def picture_size(self, header: Header, levels: int) -> tuple[int, int]:
        """Height and width of the picture of the last of ``levels`` levels."""
        shrink = self.config.shrink(levels - 1)
        return -(-header.video.height // shrink), -(-header.video.width // shrink)

    # Tiles

    def _pyramid(self, source: Tensor, header: Header) -> list[Tensor]:
        """Pictures of all levels, coarsest first: uint8 at source size, half floats above."""
        pictures = [source.permute(3, 0, 1, 2)]  # [3, F, H, W]
        for k in range(header.levels - 2, -1, -1):
            doublings = (self.config.shrink(k) // self.config.shrink(k + 1)).bit_length() - 1
            if doublings == 0:
                pictures.insert(0, pictures[0])
                continue
            finer, side = pictures[0], self.config.patch_side(k) << doublings
            height, width = (n * side for n in header.grid(k))
            frames = []
            for t in range(finer.shape[1]):
                frame = extended_pixels(finer[:, t], height, width)
                for _ in range(doublings):
                    frame = reduce(frame)
                frames.append(frame.half())
            pictures.insert(0, torch.stack(frames, 1))
        return pictures

    def _analyse(
        self, k: int, picture: Tensor, coarser: Tensor | None, header: Header, scenes: Tensor
    ) -> Tensor:
        """Latents ``[T, h, w, C]`` of a level: tiles are blended before they are quantized."""
        level, patch = self.model.level(k), self.config.patch_side(k)
        shape = (scenes.shape[1], *header.grid(k), self.config.levels[k].channels)
        blended = torch.zeros(shape, device=self.device)

        def latents_of(batch: list[Tile]) -> Tensor:
            h = torch.stack([self._residual_tokens(k, picture, coarser, t) for t in batch])
            return level.analysis.latents(h, scenes.expand(len(batch), -1))

        for batch in self._batches(header, k):
            for tile, tile_latents in self._through(latents_of, batch):
                if not bool(torch.isfinite(tile_latents).all()):
                    at = (tile.x.start * patch, tile.y.start * patch)
                    raise MptError(f"level {k}: a network result is not finite in the tile at {at}")
                weights = tile.weights(1).to(self.device)[:, :, None]
                tile.tokens(blended).add_(tile_latents.mul_(weights))
        return blended

    def _synthesise(
        self, k: int, y_hat: Tensor, coarser: Tensor | None, header: Header, scenes: Tensor
    ) -> Tensor:
        """A level's picture, half floats ``[3, F, h, w]``: tiles are blended as pixels."""
        level, patch = self.model.level(k), self.config.patch_side(k)
        height, width = (n * patch for n in header.grid(k))
        frames = scenes.shape[1] * self.config.patch_frames
        blended = torch.zeros(3, frames, height, width, dtype=torch.half, device=self.device)

        def tokens_of(batch: list[Tile]) -> Tensor:
            h = torch.stack([self._symbol_tokens(k, y_hat, coarser, t) for t in batch])
            return cast(Tensor, level.synthesis.trunk(h, scenes.expand(len(batch), -1)))

        for batch in self._batches(header, k):
            for tile, tile_tokens in self._through(tokens_of, batch):
                with self._arithmetic():
                    self._blend(k, blended, tile, tile_tokens, coarser)
        return blended

    def _through(
        self, network: Callable[[list[Tile]], Tensor], batch: list[Tile]
    ) -> Iterator[tuple[Tile, Tensor]]:
        """What a network makes of each tile of a batch; tile by tile if the batch does not fit the memory.

        Raises:
            MptError: Not even one tile fits.
        """
        try:
            with self._arithmetic():
                results = network(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise MptError("out of memory: encode with a smaller --tile, or use --device cpu") from error
        else:
            yield from zip(batch, results, strict=True)
            return
        for tile in batch:
            yield from self._through(network, [tile])

    def _blend(self, k: int, picture: Tensor, tile: Tile, h: Tensor, coarser: Tensor | None) -> None:
        """Add a tile's weighted reconstruction to a level's picture ``[3, F, h, w]``, frame by frame."""
        side, synthesis = self.config.patch_side(k), self.model.level(k).synthesis
        weights = tile.weights(side).to(self.device)
        for t in range(len(h)):
            patches = synthesis.patches(h[t])
            for f in range(self.config.patch_frames):
                at = t * self.config.patch_frames + f
                pixels = frame_of_patches(patches, f, side).float()
                if coarser is not None:
                    pixels += self._below(k, coarser[:, at], tile, side)
                tile.pixels(picture[:, at], side).add_(pixels.mul_(weights).half())

    def _residual_tokens(self, k: int, picture: Tensor, coarser: Tensor | None, tile: Tile) -> Tensor:
        """The stream ``[T, h, w, D]`` of what the coarser level leaves of a tile, slice by slice."""
        side, analysis = self.config.patch_side(k), self.model.level(k).analysis
        residual = self._patch_buffer(tile, self.config.patch_values(k))
        base = None if coarser is None else self._patch_buffer(tile, self.config.base_values)
        slices = []
        for first in range(0, picture.shape[1], self.config.patch_frames):
            for f in range(self.config.patch_frames):
                pixels = tile_pixels(picture[:, first + f], tile, side)
                if coarser is not None and base is not None:
                    below = self._below(k, coarser[:, first + f], tile, self.config.patch_size)
                    frame_into_patches(below, f, base, self.config.patch_size)
                    if side != self.config.patch_size:
                        below = self._below(k, coarser[:, first + f], tile, side)
                    pixels -= below
                frame_into_patches(pixels, f, residual, side)
            slices.append(analysis.tokens(residual, base))
        return torch.stack(slices)

    def _symbol_tokens(self, k: int, y_hat: Tensor, coarser: Tensor | None, tile: Tile) -> Tensor:
        """The stream ``[T, h, w, D]`` of a tile's quantized latents, slice by slice."""
        synthesis, patch = self.model.level(k).synthesis, self.config.patch_size
        base = None if coarser is None else self._patch_buffer(tile, self.config.base_values)
        slices = []
        for t, latents in enumerate(tile.tokens(y_hat)):
            if coarser is not None and base is not None:
                for f in range(self.config.patch_frames):
                    below = self._below(k, coarser[:, t * self.config.patch_frames + f], tile, patch)
                    frame_into_patches(below, f, base, patch)
            slices.append(synthesis.tokens(latents, base))
        return torch.stack(slices)

    def _patch_buffer(self, tile: Tile, values: int) -> Tensor:
        """Room for one slice of a tile as patches ``[h, w, values]``, in the networks' type.

        It is filled frame by frame and used for every slice: fresh memory of this size costs more
        than the arithmetic on it.
        """
        height, width = tile.y.stop - tile.y.start, tile.x.stop - tile.x.start
        return torch.empty(height, width, values, dtype=self.dtype, device=self.device)

    def _below(self, k: int, coarser: Tensor, tile: Tile, per_token: int) -> Tensor:
        """The coarser reconstruction ``[3, h, w]`` under one frame of a tile of level ``k``, so large."""
        doublings = (per_token * 2 // self.config.patch_side(k - 1)).bit_length() - 1
        return expanded_tile(coarser, tile, per_token, doublings)

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
