"""Analysis and synthesis of whole pictures of any size, in tiles that are blended.

Whatever overlaps is blended before it is coded: latents in analysis, pixels in synthesis. Memory beside the
pictures is that of one batch of tiles, and within a tile that of one slice at a time.
"""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import cast

import torch
from torch import Tensor

from mptvc.codec.stages import stage
from mptvc.codec.tiles import Tile, expanded_tile, extended_pixels, tile_pixels, tiles
from mptvc.errors import MptError
from mptvc.format.geometry import Geometry
from mptvc.model.model import Model
from mptvc.model.pyramid import reduce
from mptvc.model.transforms import frame_into_patches, frame_of_patches


class TiledNetworks:
    """A model's analysis and synthesis for the pictures of one video, of any size.

    Args:
        model: Networks, in evaluation mode on their device.
        geometry: Of the video.
        dtype: Type of their matrix products.
        tile_batch: Tiles that the networks see at once; more is faster on a GPU and takes memory.
    """

    def __init__(self, model: Model, geometry: Geometry, dtype: torch.dtype, tile_batch: int) -> None:
        self.model, self.config, self.geometry = model, model.config, geometry
        self.dtype, self.tile_batch = dtype, tile_batch
        self.device = next(model.parameters()).device

    @stage("pyramid")
    def pyramid(self, source: Tensor) -> list[Tensor]:
        """Pictures ``[3, F, h, w]`` of all levels, coarsest first, from frames uint8 ``[F, H, W, 3]``.

        They are uint8 at source size, half floats in [-1, 1] above.
        """
        pictures = [source.permute(3, 0, 1, 2)]  # [3, F, H, W]
        for k in range(self.geometry.num_levels - 2, -1, -1):
            doublings = (self.config.shrink(k) // self.config.shrink(k + 1)).bit_length() - 1
            if doublings == 0:
                pictures.insert(0, pictures[0])
                continue
            finer, side = pictures[0], self.config.patch_side(k) << doublings
            height, width = (n * side for n in self.geometry.grid(k))
            frames = []
            for t in range(finer.shape[1]):
                frame = extended_pixels(finer[:, t], height, width)
                for _ in range(doublings):
                    frame = reduce(frame)
                frames.append(frame.half())
            pictures.insert(0, torch.stack(frames, 1))
        return pictures

    @stage("analysis")
    def analyse(self, k: int, picture: Tensor, coarser: Tensor | None, shots: Tensor) -> Tensor:
        """Latents ``[T, h, w, C]`` of a level, float32 in steps: tiles are blended before they are quantized.

        Args:
            k: The level.
            picture: Its picture ``[3, F, h', w']``, as `pyramid` makes it.
            coarser: The coarser level's decoded picture, half floats ``[3, F, h', w']``; None at level 0.
            shots: Shot number of each slice ``[1, T]``.

        Raises:
            MptError: A network returned a number that is not finite.
        """
        level, patch = self.model.level(k), self.config.patch_side(k)
        shape = (shots.shape[1], *self.geometry.grid(k), self.config.levels[k].channels)
        blended = torch.zeros(shape, device=self.device)

        def latents_of(batch: list[Tile]) -> Tensor:
            h = torch.stack([self._residual_tokens(k, picture, coarser, t) for t in batch])
            return level.analysis.latents(h, shots.expand(len(batch), -1))

        for batch in self._batches(k):
            for tile, tile_latents in self._through(latents_of, batch):
                if not bool(torch.isfinite(tile_latents).all()):
                    at = (tile.x.start * patch, tile.y.start * patch)
                    raise MptError(f"level {k}: a network result is not finite in the tile at {at}")
                weights = tile.weights(1).to(self.device)[:, :, None]
                tile.tokens(blended).add_(tile_latents.mul_(weights))
        return blended

    @stage("synthesis")
    def synthesise(
        self,
        k: int,
        symbols: Tensor,
        factor: float,
        coarser: Tensor | None,
        shots: Tensor,
    ) -> Tensor:
        """A level's picture, half floats ``[3, F, h, w]`` in about [-1, 1]: tiles are blended as pixels.

        Args:
            k: The level.
            symbols: Its centred symbols ``[T, h, w, C]``, of any type, anywhere.
            factor: What latents were multiplied by before they were rounded.
            coarser: The coarser level's picture, None at level 0.
            shots: Shot number of each slice ``[1, T]``.
        """
        level, patch = self.model.level(k), self.config.patch_side(k)
        height, width = (n * patch for n in self.geometry.grid(k))
        frames = shots.shape[1] * self.config.patch_frames
        blended = torch.zeros(3, frames, height, width, dtype=torch.half, device=self.device)

        def tokens_of(batch: list[Tile]) -> Tensor:
            h = torch.stack([self._symbol_tokens(k, symbols, factor, coarser, t) for t in batch])
            return cast(Tensor, level.synthesis.trunk(h, shots.expand(len(batch), -1)))

        for batch in self._batches(k):
            for tile, tile_tokens in self._through(tokens_of, batch):
                with self._arithmetic():
                    self._blend(k, blended, tile, tile_tokens, coarser)
        return blended

    def _through(
        self, network: Callable[[list[Tile]], Tensor], batch: list[Tile]
    ) -> Iterator[tuple[Tile, Tensor]]:
        """What a network makes of each tile of a batch; tile by tile if the batch does not fit the memory."""
        try:
            with self._arithmetic():
                results = network(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
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

    def _symbol_tokens(
        self, k: int, symbols: Tensor, factor: float, coarser: Tensor | None, tile: Tile
    ) -> Tensor:
        """The stream ``[T, h, w, D]`` of a tile's quantized latents, slice by slice."""
        synthesis, patch = self.model.level(k).synthesis, self.config.patch_size
        base = None if coarser is None else self._patch_buffer(tile, self.config.base_values)
        slices = []
        for t, quantized in enumerate(tile.tokens(symbols)):
            if coarser is not None and base is not None:
                for f in range(self.config.patch_frames):
                    below = self._below(k, coarser[:, t * self.config.patch_frames + f], tile, patch)
                    frame_into_patches(below, f, base, patch)
            slices.append(synthesis.tokens(quantized.to(self.device) / factor, base))
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

    def _batches(self, level: int) -> Iterator[list[Tile]]:
        """Tiles of one shape, ``tile_batch`` at a time; their order does not depend on it."""

        def shape(tile: Tile) -> tuple[int, int]:
            return tile.y.stop - tile.y.start, tile.x.stop - tile.x.start

        ordered = sorted(tiles(self.geometry.tiles[level], *self.geometry.grid(level)), key=shape)
        for _, group in groupby(ordered, key=shape):
            alike = list(group)
            for first in range(0, len(alike), self.tile_batch):
                yield alike[first : first + self.tile_batch]
