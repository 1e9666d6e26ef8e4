"""One clip in tensors: pixels to the symbols of every level and back, and the training pass.

Video is ``[B, 3, T, H, W]`` in [-1, 1], T a multiple of ``patch_frames``, H and W multiples of
``config.multiple``. `Model` sees whole pictures, `codec.tiled_networks` large ones in tiles; both are
`Networks` for the one step that codes a level.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from mptvc.model.config import ModelConfig
from mptvc.model.entropy_model import EntropyModel
from mptvc.model.fsq import FSQ
from mptvc.model.pyramid import expand, reduce
from mptvc.model.transforms import Analysis, Synthesis, patchify, unpatchify


class Networks(Protocol):
    """Analysis and synthesis of all levels; ``factor`` is what latents were multiplied by."""

    def analyse(self, k: int, picture: Tensor, coarser: Tensor | None, shots: Tensor) -> Tensor:
        """Latents of level ``k``'s picture, given the coarser level's decoded picture."""

    def synthesise(
        self, k: int, symbols: Tensor, factor: float, coarser: Tensor | None, shots: Tensor
    ) -> Tensor:
        """The decoded picture of level ``k``."""


class Quantized(Protocol):
    """What a quantizer makes of latents."""

    @property
    def symbols(self) -> Tensor:
        """Centred symbols, of the shape of the latents."""

    @property
    def factor(self) -> float:
        """What latents were multiplied by before they were rounded."""


Coded = TypeVar("Coded", bound=Quantized)


class LevelStep(Generic[Coded]):
    """One level of a clip, coded on top of what a decoder has of the coarser one.

    Args:
        networks: Whose analysis and synthesis to use.
        k: The level.
        picture: Its picture.
        coarser: The coarser level's decoded picture, None at level 0.
        shots: Shot number of each slice ``[B, T]``.
        quantize: Turns the level's number and its latents into symbols.

    Attributes:
        coded: What the quantizer returned.
    """

    def __init__(
        self,
        networks: Networks,
        k: int,
        picture: Tensor,
        coarser: Tensor | None,
        shots: Tensor,
        quantize: Callable[[int, Tensor], Coded],
    ) -> None:
        self._networks, self._level, self._coarser, self._shots = networks, k, coarser, shots
        self.coded = quantize(k, networks.analyse(k, picture, coarser, shots))

    @cached_property
    def x_hat(self) -> Tensor:
        """The level's decoded picture, made when a finer level asks for it."""
        symbols, factor = self.coded.symbols, self.coded.factor
        return self._networks.synthesise(self._level, symbols, factor, self._coarser, self._shots)


def decode_levels(
    networks: Networks, symbols: Sequence[Tensor], factors: Sequence[float], shots: Tensor
) -> Tensor:
    """The decoded picture of the last of the given levels.

    Args:
        networks: Whose synthesis to use.
        symbols: Centred symbols of each level.
        factors: What latents were multiplied by, of each level or of more.
        shots: Shot number of each slice ``[B, T]``.

    Raises:
        ValueError: There is no level.
    """
    x_hat = None
    for k, level in enumerate(symbols):
        x_hat = networks.synthesise(k, level, factors[k], x_hat, shots)
    if x_hat is None:
        raise ValueError("decoding needs the symbols of at least one level")
    return x_hat


@dataclass(frozen=True)
class TrainingSymbols:
    """Symbols of a batch.

    Attributes:
        symbols: Those that an encoder chooses ``[B, T, h/p, w/p, C]``, with a straight-through gradient.
        nearest: The rounded latents.
        factor: What latents were multiplied by.
    """

    symbols: Tensor
    nearest: Tensor
    factor: float


@dataclass(frozen=True)
class LevelOutput:
    """What the training pass knows of one level.

    Attributes:
        x_hat: Reconstruction of the level's picture ``[B, 3, T, h, w]``.
        symbols: Centred symbols ``[B, T, h/p, w/p, C]``.
        squared_error: Mean squared error against the level's picture, pixels in [-1, 1].
        bits: Bits of symbols and hyper symbols per pixel of the level's picture.
    """

    x_hat: Tensor
    symbols: Tensor
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

    def analyse(self, x: Tensor, base: Tensor | None, shots: Tensor) -> Tensor:
        """Latents before quantization ``[B, T, H, W, C]``.

        Args:
            x: The level's picture ``[B, 3, T, h, w]``.
            base: The coarser reconstruction from ``Model.base``, None at level 0.
            shots: Shot number of each slice ``[B, T]``.
        """
        patches = patchify(self.residual(x, base), *self.patch)
        latents: Tensor = self.analysis(patches, self._base_patches(base), shots)
        return latents

    def residual(self, x: Tensor, base: Tensor | None) -> Tensor:
        """What the coarser reconstruction leaves of a picture ``[B, 3, T, h, w]``."""
        return x if base is None else x - self.enlarge(base)

    def enlarge(self, base: Tensor) -> Tensor:
        """The coarser reconstruction at the size of this level's picture."""
        return base if self.detail == 1 else expand(base)

    def _base_patches(self, base: Tensor | None) -> Tensor | None:
        return None if base is None else patchify(base, *self.base_patch)

    def quantize(self, y: Tensor, parent: Tensor | None, shots: Tensor) -> tuple[Tensor, Tensor]:
        """Centred symbols for latents ``[B, T, H, W, C]``, with a straight-through gradient.

        Args:
            y: Latents.
            parent: Symbols of the coarser level or None.
            shots: Shot number of each slice ``[B, T]``.

        Returns:
            The symbols that an encoder chooses, and the nearest ones.
        """
        rounded = self.fsq(y)
        chosen = self.entropy_model.choose(y.detach(), parent, fresh_slices(shots))
        return rounded + (chosen - rounded).detach(), rounded.detach()

    def synthesise(self, y_hat: Tensor, base: Tensor | None, shots: Tensor) -> Tensor:
        """Reconstruction ``[B, 3, T, h, w]`` from quantized latents ``[B, T, H, W, C]``, in steps."""
        patches = self.synthesis(y_hat, self._base_patches(base), shots)
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

    def base(self, index: int, coarser: Tensor | None) -> Tensor | None:
        """What level ``index`` starts from: the coarser picture with ``patch_size`` pixels a token."""
        if coarser is None:
            return None
        same = self.config.shrink(index - 1) == self.config.shrink(index) * self.config.levels[index].detail
        return coarser if same else expand(coarser)

    def analyse(self, k: int, picture: Tensor, coarser: Tensor | None, shots: Tensor) -> Tensor:
        """Latents ``[B, T, h/p, w/p, C]`` of a level's picture ``[B, 3, T, h, w]``."""
        return self.level(k).analyse(picture, self.base(k, coarser), shots)

    def synthesise(
        self, k: int, symbols: Tensor, factor: float, coarser: Tensor | None, shots: Tensor
    ) -> Tensor:
        """A level's decoded picture ``[B, 3, T, h, w]`` from symbols ``[B, T, h/p, w/p, C]``."""
        return self.level(k).synthesise(symbols / factor, self.base(k, coarser), shots)

    def step(
        self,
        index: int,
        picture: Tensor,
        coarser: Tensor | None,
        parent: Tensor | None,
        shots: Tensor,
        factor: float = 1.0,
    ) -> LevelStep[TrainingSymbols]:
        """One level of whole pictures.

        Args:
            index: The level.
            picture: Its picture ``[B, 3, T, h, w]``.
            coarser: The coarser level's decoded picture, None at level 0.
            parent: The coarser level's symbols, None at level 0.
            shots: Shot number of each slice ``[B, T]``.
            factor: What latents are multiplied by before they are rounded.
        """

        def quantize(k: int, y: Tensor) -> TrainingSymbols:
            return TrainingSymbols(*self.level(k).quantize(factor * y, parent, shots), factor)

        return LevelStep(self, index, picture, coarser, shots, quantize)

    def steps(
        self, pictures: Sequence[Tensor], shots: Tensor, factors: Sequence[float]
    ) -> list[LevelStep[TrainingSymbols]]:
        """The first levels, each coded on top of what the coarser ones decode to."""
        steps: list[LevelStep[TrainingSymbols]] = []
        for index, picture in enumerate(pictures):
            coarser, parent = (steps[-1].x_hat, steps[-1].coded.symbols) if steps else (None, None)
            steps.append(self.step(index, picture, coarser, parent, shots, factors[index]))
        return steps

    def encode(self, x: Tensor, shots: Tensor | None = None) -> list[Tensor]:
        """Video ``[B, 3, T, H, W]`` in [-1, 1] to centred symbols of every level.

        Args:
            x: Video.
            shots: Shot number of each slice ``[B, T / patch_frames]``; one shot by default.

        Returns:
            For each level ``[B, T/p_t, h/p, w/p, C]``, integers in float32, differentiable by the
            straight-through estimator.
        """
        pictures = self.pyramid(x)
        steps = self.steps(pictures, self._shots(x, shots), [1.0] * len(pictures))
        return [step.coded.symbols for step in steps]

    def decode(self, symbols: list[Tensor], shots: Tensor | None = None) -> Tensor:
        """Centred symbols of the first one or more levels to video at the last level's size."""
        if shots is None:
            shots = torch.zeros(symbols[0].shape[:2], device=symbols[0].device) if symbols else torch.empty(0)
        return decode_levels(self, symbols, [1.0] * len(symbols), shots)

    def forward(self, x: Tensor, shots: Tensor | None = None, levels: int | None = None) -> list[LevelOutput]:
        """The training pass over the first ``levels`` levels; no gradient crosses levels."""
        shots = self._shots(x, shots)
        outputs: list[LevelOutput] = []
        for index, picture in enumerate(self.pyramid(x)[:levels]):
            coarser, parent = (outputs[-1].x_hat, outputs[-1].symbols) if outputs else (None, None)
            outputs.append(self.level_forward(index, picture, coarser, parent, shots))
        return outputs

    def level_forward(
        self,
        index: int,
        x: Tensor,
        coarser: Tensor | None,
        parent: Tensor | None,
        shots: Tensor,
        factor: float = 1.0,
    ) -> LevelOutput:
        """The training pass of one level; arguments as in ``step``, through which no gradient leaves it."""
        coarser, parent = (None if t is None else t.detach() for t in (coarser, parent))
        step = self.step(index, x, coarser, parent, shots, factor)
        symbols, x_hat = step.coded.symbols, step.x_hat
        entropy_model = self.level(index).entropy_model
        bits, hyper_bits = entropy_model(symbols, parent, fresh_slices(shots), step.coded.nearest)
        pixels = x.numel() / x.shape[1]
        rate = (bits.sum() + hyper_bits.sum()) / pixels
        return LevelOutput(x_hat, symbols, (x_hat - x).square().mean(), rate)

    def _shots(self, x: Tensor, shots: Tensor | None) -> Tensor:
        if shots is not None:
            return shots
        return x.new_zeros(x.shape[0], x.shape[2] // self.config.patch_frames)


def fresh_slices(shots: Tensor) -> Tensor:
    """Whether a slice starts the clip or a shot: bool of the shape of ``shots`` ``[B, T]``."""
    fresh = torch.ones_like(shots, dtype=torch.bool)
    fresh[:, 1:] = shots[:, 1:] != shots[:, :-1]
    return fresh
