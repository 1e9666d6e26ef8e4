"""One clip in tensors: pixels to the symbols of every level and back, and the training pass.

Video is ``[B, 3, T, H, W]`` in [-1, 1], T a multiple of ``patch_frames``, H and W multiples of
``config.multiple``. This module sees whole pictures; `tiled` cuts large ones into tiles.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mptvc.model.config import ModelConfig
from mptvc.model.entropy_model import EntropyModel
from mptvc.model.fsq import FSQ
from mptvc.model.pyramid import expand, reduce
from mptvc.model.transforms import Analysis, Synthesis, patchify, unpatchify


@dataclass(frozen=True)
class LevelOutput:
    """What the training pass knows of one level.

    Attributes:
        x_hat: Reconstruction of the level's picture ``[B, 3, T, h, w]``.
        y_hat: Centred symbols ``[B, T, h/p, w/p, C]``.
        squared_error: Mean squared error against the level's picture, pixels in [-1, 1].
        bits: Bits of symbols and hyper symbols per pixel of the level's picture.
    """

    x_hat: Tensor
    y_hat: Tensor
    squared_error: Tensor
    bits: Tensor


class Level(nn.Module):
    """The networks of one pyramid level."""

    def __init__(self, index: int, config: ModelConfig) -> None:
        super().__init__()
        self.detail = config.levels[index].detail
        self.patch = (config.patch_frames, config.patch_side(index))
        self.base_patch = (config.patch_frames, config.patch_size)
        self.analysis = Analysis(index, config)
        self.synthesis = Synthesis(index, config)
        self.fsq = FSQ(config.levels[index].halves)
        self.entropy_model = EntropyModel(index, config)

    def analyse(self, x: Tensor, base: Tensor | None, scenes: Tensor) -> Tensor:
        """Latents before quantization ``[B, T, H, W, C]``.

        Args:
            x: The level's picture ``[B, 3, T, h, w]``.
            base: The coarser reconstruction from ``Model.base``, None at level 0.
            scenes: Shot number of each slice ``[B, T]``.
        """
        residual = x if base is None else x - self.enlarge(base)
        latents: Tensor = self.analysis(patchify(residual, *self.patch), self._base_patches(base), scenes)
        return latents

    def enlarge(self, base: Tensor) -> Tensor:
        """The coarser reconstruction at the size of this level's picture."""
        return base if self.detail == 1 else expand(base)

    def _base_patches(self, base: Tensor | None) -> Tensor | None:
        return None if base is None else patchify(base, *self.base_patch)

    def quantize(self, y: Tensor, parent: Tensor | None, scenes: Tensor) -> tuple[Tensor, Tensor]:
        """Centred symbols for latents ``[B, T, H, W, C]``, with a straight-through gradient.

        Args:
            y: Latents.
            parent: Symbols of the coarser level or None.
            scenes: Shot number of each slice ``[B, T]``.

        Returns:
            The symbols that an encoder chooses, and the nearest ones.
        """
        rounded = self.fsq(y)
        chosen = self.entropy_model.choose(y.detach(), parent, fresh_slices(scenes))
        return rounded + (chosen - rounded).detach(), rounded.detach()

    def synthesise(self, y_hat: Tensor, base: Tensor | None, scenes: Tensor) -> Tensor:
        """Reconstruction ``[B, 3, T, h, w]`` from quantized latents ``[B, T, H, W, C]``, in steps."""
        patches = self.synthesis(y_hat, self._base_patches(base), scenes)
        out = unpatchify(patches, *self.patch).float()
        return out if base is None else self.enlarge(base) + out


class Model(nn.Module):
    """The codec's networks.

    Args:
        config: Shapes of everything.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = nn.ModuleList(Level(k, config) for k in range(len(config.levels)))

    def level(self, index: int) -> Level:
        """The networks of one level, 0 the coarsest."""
        level = self.levels[index]
        if not isinstance(level, Level):
            raise TypeError("levels hold Level modules")
        return level

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Pictures of all levels, coarsest first."""
        pictures, size = [x], 1
        for index in reversed(range(len(self.levels) - 1)):
            picture = pictures[0]
            while size < self.config.shrink(index):
                picture, size = reduce(picture), 2 * size
            pictures.insert(0, picture)
        return pictures

    def base(self, index: int, coarser: Tensor) -> Tensor:
        """What level ``index`` starts from: the coarser picture with ``patch_size`` pixels a token."""
        same = self.config.shrink(index - 1) == self.config.shrink(index) * self.config.levels[index].detail
        return coarser if same else expand(coarser)

    def encode(self, x: Tensor, scenes: Tensor | None = None) -> list[Tensor]:
        """Video ``[B, 3, T, H, W]`` in [-1, 1] to centred symbols of every level.

        Args:
            x: Video.
            scenes: Shot number of each slice ``[B, T / patch_frames]``; one shot by default.

        Returns:
            For each level ``[B, T/p_t, h/p, w/p, C]``, integers in float32, differentiable by the
            straight-through estimator.
        """
        scenes = self._scenes(x, scenes)
        latents: list[Tensor] = []
        base = None
        for index, picture in enumerate(self.pyramid(x)):
            level = self.level(index)
            parent = latents[-1] if latents else None
            latents.append(level.quantize(level.analyse(picture, base, scenes), parent, scenes)[0])
            if index + 1 < len(self.levels):
                base = self.base(index + 1, level.synthesise(latents[-1], base, scenes))
        return latents

    def decode(self, latents: list[Tensor], scenes: Tensor | None = None) -> Tensor:
        """Centred symbols of the first one or more levels to video at the last level's size."""
        x_hat = None
        for index, y_hat in enumerate(latents):
            if scenes is None:
                scenes = y_hat.new_zeros(y_hat.shape[:2])
            base = None if x_hat is None else self.base(index, x_hat)
            x_hat = self.level(index).synthesise(y_hat, base, scenes)
        if x_hat is None:
            raise ValueError("decode needs the symbols of at least one level")
        return x_hat

    def forward(
        self, x: Tensor, scenes: Tensor | None = None, levels: int | None = None
    ) -> list[LevelOutput]:
        """The training pass over the first ``levels`` levels; no gradient crosses levels."""
        scenes = self._scenes(x, scenes)
        outputs: list[LevelOutput] = []
        for index, picture in enumerate(self.pyramid(x)[:levels]):
            coarser = outputs[-1] if outputs else None
            outputs.append(self.level_forward(index, picture, coarser, scenes))
        return outputs

    def level_forward(
        self, index: int, x: Tensor, coarser: LevelOutput | None, scenes: Tensor, gain: float = 1.0
    ) -> LevelOutput:
        """The training pass of one level, given what the coarser one made.

        Args:
            index: The level.
            x: Its picture ``[B, 3, T, h, w]``.
            coarser: The coarser level's output, None at level 0.
            scenes: Shot number of each slice ``[B, T]``.
            gain: Quantization steps in the one that the level was trained for.
        """
        level = self.level(index)
        base = None if coarser is None else self.base(index, coarser.x_hat.detach())
        parent = None if coarser is None else coarser.y_hat.detach()
        y_hat, rounded = level.quantize(gain * level.analyse(x, base, scenes), parent, scenes)
        x_hat = level.synthesise(y_hat / gain, base, scenes)
        y_bits, z_bits = level.entropy_model(y_hat, parent, fresh_slices(scenes), rounded)
        pixels = x.numel() / x.shape[1]
        bits = (y_bits.sum() + z_bits.sum()) / pixels
        return LevelOutput(x_hat, y_hat, (x_hat - x).square().mean(), bits)

    def _scenes(self, x: Tensor, scenes: Tensor | None) -> Tensor:
        if scenes is not None:
            return scenes
        return x.new_zeros(x.shape[0], x.shape[2] // self.config.patch_frames)


def fresh_slices(scenes: Tensor) -> Tensor:
    """Whether a slice starts the clip or a shot: bool of the shape of ``scenes`` ``[B, T]``."""
    fresh = torch.ones_like(scenes, dtype=torch.bool)
    fresh[:, 1:] = scenes[:, 1:] != scenes[:, :-1]
    return fresh
