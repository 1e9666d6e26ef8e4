"""One clip: frames to symbols, symbols to packets, and back; large pictures in tiles.

Knows tensors, tiles and packets; knows no file. Memory is bounded by one clip and one batch of tiles.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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
from mptvc.tiling import Tile, choose_grid, expanded_tile, extended_pixels, tile_pixels, tiles
from mptvc.transforms import Analysis, Synthesis, frame_into_patches, frame_of_patches

#: Largest core of a tile that is chosen automatically, in tokens (height, width).
CORE_TOKENS = (144, 256)
#: Smallest core that may be asked for, in tokens.
SMALLEST_CORE = 16
_WRONG_ROWS = (
    "the file is forged, or this machine computes the entropy model wrongly; then report `mptvc env`"
)


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
        self, frames: np.ndarray, header: Header, scenes: tuple[int, ...]
    ) -> tuple[list[Tensor], list[bytes]]:
        """Coded frames uint8 ``[F, H, W, 3]`` to centred symbols and packets of every level.

        Returns:
            For each level float32 ``[F / patch_frames, h, w, C]``, and the packet that holds them.

        Raises:
            MptError: A network returned a number that is not finite.
        """
        pictures = self._pyramid(torch.from_numpy(frames).to(self.device), header)
        shots = torch.tensor([scenes], device=self.device)
        symbols: list[Tensor] = []
        packets: list[bytes] = []
        x_hat = None
        for k, picture in enumerate(pictures):
            latents = self._analyse(k, picture, x_hat, header, shots)
            writer = PacketWriter(self._tables[k])
            symbols.append(self._code(k, writer, latents.shape[:3], symbols, scenes, latents))
            packets.append(writer.finish())
            if k + 1 < len(pictures):
                x_hat = self._synthesise(k, symbols[k].to(self.device), x_hat, header, shots)
        return symbols, packets

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
            frames = [reduce(extended_pixels(finer[:, t], height, width)) for t in range(finer.shape[1])]
            pictures.insert(0, torch.stack([f.half() for f in frames], 1))
        return pictures

    def _analyse(
        self, k: int, picture: Tensor, coarser: Tensor | None, header: Header, scenes: Tensor
    ) -> Tensor:
        """Latents ``[T, h, w, C]`` of a level: tiles are blended before they are quantized."""
        level, patch = self.model.level(k), self.config.patch_size
        shape = (scenes.shape[1], *header.grid(k), self.config.levels[k].channels)
        blended = torch.zeros(shape, device=self.device)

        def latents_of(batch: list[Tile]) -> Tensor:
            h = torch.stack([self._residual_tokens(level.analysis, picture, coarser, t) for t in batch])
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
        self, k: int, symbols: Tensor, coarser: Tensor | None, header: Header, scenes: Tensor
    ) -> Tensor:
        """A level's picture, half floats ``[3, F, h, w]``: tiles are blended as pixels."""
        level, patch = self.model.level(k), self.config.patch_size
        height, width = (n * patch for n in header.grid(k))
        frames = scenes.shape[1] * self.config.patch_frames
        blended = torch.zeros(3, frames, height, width, dtype=torch.half, device=self.device)

        def tokens_of(batch: list[Tile]) -> Tensor:
            h = torch.stack([self._symbol_tokens(level.synthesis, symbols, coarser, t) for t in batch])
            return cast(Tensor, level.synthesis.trunk(h, scenes.expand(len(batch), -1)))

        for batch in self._batches(header, k):
            for tile, tile_tokens in self._through(tokens_of, batch):
                with self._arithmetic():
                    self._blend(blended, tile, level.synthesis, tile_tokens, coarser)
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

    def _blend(
        self, picture: Tensor, tile: Tile, synthesis: Synthesis, h: Tensor, coarser: Tensor | None
    ) -> None:
        """Add a tile's weighted reconstruction to a picture ``[3, F, h, w]``, frame by frame."""
        weights = tile.weights(self.config.patch_size).to(self.device)
        for t in range(len(h)):
            patches = synthesis.patches(h[t])
            for f in range(self.config.patch_frames):
                at = t * self.config.patch_frames + f
                pixels = frame_of_patches(patches, f, self.config).float()
                if coarser is not None:
                    pixels += self._base(coarser, tile, at)
                tile.pixels(picture[:, at], self.config.patch_size).add_(pixels.mul_(weights).half())

    def _residual_tokens(
        self, analysis: Analysis, picture: Tensor, coarser: Tensor | None, tile: Tile
    ) -> Tensor:
        """The stream ``[T, h, w, D]`` of what the coarser level leaves of a tile, slice by slice."""
        residual, base = self._patch_buffer(tile), self._patch_buffer(tile)
        slices = []
        for first in range(0, picture.shape[1], self.config.patch_frames):
            for f in range(self.config.patch_frames):
                pixels = tile_pixels(picture[:, first + f], tile, self.config.patch_size)
                if coarser is not None:
                    below = self._base(coarser, tile, first + f)
                    frame_into_patches(below, f, base, self.config)
                    pixels -= below
                frame_into_patches(pixels, f, residual, self.config)
            slices.append(analysis.tokens(residual, None if coarser is None else base))
        return torch.stack(slices)

    def _symbol_tokens(
        self, synthesis: Synthesis, symbols: Tensor, coarser: Tensor | None, tile: Tile
    ) -> Tensor:
        """The stream ``[T, h, w, D]`` of a tile's symbols, slice by slice."""
        base = self._patch_buffer(tile)
        slices = []
        for t, y_hat in enumerate(tile.tokens(symbols)):
            if coarser is not None:
                for f in range(self.config.patch_frames):
                    below = self._base(coarser, tile, t * self.config.patch_frames + f)
                    frame_into_patches(below, f, base, self.config)
            slices.append(synthesis.tokens(y_hat, None if coarser is None else base))
        return torch.stack(slices)

    def _patch_buffer(self, tile: Tile) -> Tensor:
        """Room for one slice of a tile as patches ``[h, w, P]``, in the networks' type.

        It is filled frame by frame and used for every slice: fresh memory of this size costs more
        than the arithmetic on it.
        """
        height, width = tile.y.stop - tile.y.start, tile.x.stop - tile.x.start
        return torch.empty(height, width, self.config.patch_values, dtype=self.dtype, device=self.device)

    def _base(self, coarser: Tensor, tile: Tile, frame: int) -> Tensor:
        """The expanded coarser reconstruction under one frame of a tile ``[3, h, w]``."""
        return expanded_tile(coarser[:, frame], tile, self.config.patch_size)

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


def level_size(header: Header, levels: int) -> tuple[int, int]:
    """Height and width of the picture of the last of ``levels`` levels."""
    factor = 2 ** (header.levels - levels)
    return -(-header.video.height // factor), -(-header.video.width // factor)
