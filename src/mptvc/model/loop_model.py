"""What a level of the closed loop is made of: transforms of residuals, and tables for what is coded.

The transform is a DCT of each colour. It is sparser on what prediction leaves than the KLT of that: on
eight training clips, at the same steps, 25.4 / 34.7 / 40.5 dB against 24.6 / 33.8 / 39.8 dB for more bits.
And it is two small matrix products, along rows and columns, where a KLT is one large one. A token is
whole or quartered (see `dct`).

What a decoder computes is exact: integers, carried in float64 below 2^53, with a stated rounding after each
step. So every machine decodes the same pixels. All is rounded to the nearest, of two to the even one:

- **Matrices.** ``D[k, i] = round(2^13 c_k cos(pi (i + 1/2) k / n))`` for n samples, with c_k = (2 / n)^(1/2)
  and c_0 = (1 / n)^(1/2); ``C[d, c] = round(2^13 COLOURS[d, c])``. Nothing is near a half there.
- **Steps.** The level's over 2^(gain / 24), times the share of the kind of picture, over 2^(unit fineness) of
  the token (see `loop_config`), rounded to multiples of 1/256, at least one.
- **Latents.** Channel ``(d p + u) p + v`` of a token of p x p pixels is of colour d and place (u, v). A
  symbol s stands for ``(10 s + sign s) step / 10``, rounded to sixteenths, of these kept to -2^19 to 2^19.
- **Sums.** A whole token's are ``S[d, y, x] = sum over u, v of L[d, u, v] D[u, x] D[v, y]`` with n = p; of a
  quartered one, those of the quarter that is q-th from the left and r-th from the top are the same with
  n = p / 2 and ``L[d, 2 u + q, 2 v + r]``. They are rounded to ``R = round(S / 2^24)``, in 1/64 of a pixel.
- **Pixels.** Predicted ones plus ``(sum over d of C[d, c] R[d, y, x]) / 2^19``, rounded and then kept to 0 to
  255. Tokens without symbols stay as they are predicted. Then borders are smoothed (see `smoothing`), and
  tokens with symbols restored where the configuration says so (see `restoration`).
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

from mptvc.model.activity import ActivityModel
from mptvc.model.contexts import repeated
from mptvc.model.dct import MATRIX_BITS, dct_matrix, exact, frequencies, quartered_frequencies, samples
from mptvc.model.envelope import EnvelopeModel
from mptvc.model.fineness import FINEST, FinenessModel, no_fineness
from mptvc.model.loop_config import LoopConfig, LoopLevelConfig
from mptvc.model.restoration import STEP_UNITS, Restoration
from mptvc.model.side import SideModel

#: Luma and two differences of colours, orthonormal, from RGB.
COLOURS = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))
#: Frequencies, as sums of both axes over those of a block of 16, at which bands end.
_BANDS = (1.5, 4.5, 8.5, 13.5, 20.0)
#: How many tenths further from zero than its symbol a latent is restored: symbols are rounded towards zero.
#: In the mean of four training clips latents with a symbol of 1 lie 0.04 to 0.13 further out, larger ones
#: 0.02 to 0.17.
OUTWARD = 1
#: Restored latents and sums of one frequency are multiples of one over these.
_LATENT_UNITS, _SUM_UNITS = 16, 64
#: The largest restored latent, in its units.
_MOST_LATENT = 2**19


def band_groups(patch: int) -> Tensor:
    """Group of each channel ``[C]``: those of like frequencies, of luma or of the differences of colours."""
    k = torch.arange(patch) * (16 / patch)
    bands = torch.bucketize(k[:, None] + k, torch.tensor(_BANDS))
    return torch.cat([2 * bands.flatten(), *[2 * bands.flatten() + 1] * 2])


def band_order(patch: int) -> Tensor:
    """The channels by their groups, and in each from low to high frequencies, like ones side by side."""
    frequency = torch.arange(patch)
    low, apart = ((frequency[:, None] + sign * frequency).flatten().repeat(3) for sign in (1, -1))
    order = torch.arange(3 * patch**2)
    for key in (apart, low, band_groups(patch)):
        order = order[key[order].argsort(stable=True)]
    return order


class Kind(nn.Module):
    """Transform and entropy model of one kind of picture at one level.

    Args:
        patch: Pixels along a token's side.
        restores: Whether it has filters.
        coded_flags: As of the configuration.

    Attributes:
        patch: The same.
        channels: Latents of a token.
        entropy_model: What codes activities and symbols.
        restoration: Filters of coded tokens.
    """

    dct: Tensor
    half_dct: Tensor
    colours: Tensor
    exact_dct: Tensor
    exact_half_dct: Tensor
    exact_colours: Tensor

    def __init__(self, patch: int, *, restores: bool, coded_flags: bool = False) -> None:
        super().__init__()
        self.patch, self.channels = patch, 3 * patch * patch
        matrices = {"dct": dct_matrix(patch), "half_dct": dct_matrix(patch // 2)}
        matrices["colours"] = torch.tensor(COLOURS, dtype=torch.float64)
        for name, matrix in matrices.items():
            self.register_buffer(name, matrix.float(), persistent=False)
            self.register_buffer(f"exact_{name}", exact(matrix), persistent=False)
        self.entropy_model = ActivityModel(band_groups(patch), band_order(patch), has_flags=coded_flags)
        self.restoration = Restoration() if restores else None

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Tokens of a picture of so many pixels, along y and x."""
        return height // self.patch, width // self.patch

    def cells(self, picture: Tensor) -> Tensor:
        """The tokens ``[n, 3, patch, patch]`` of a picture ``[3, H, W]``, row by row, float32."""
        rows, columns = self.grid(*picture.shape[1:])
        cells = picture.view(3, rows, self.patch, columns, self.patch).permute(1, 3, 0, 2, 4)
        return cells.reshape(-1, 3, self.patch, self.patch).float()

    def latents(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Latents float32 ``[n, C]`` of tokens ``[n, 3, patch, patch]``, if whole and if quartered."""
        mixed = torch.einsum("dc,ncyx->ndyx", self.colours, cells).reshape(-1, self.patch, self.patch)
        both = frequencies(mixed, self.dct), quartered_frequencies(mixed, self.half_dct)
        whole, quartered = (latents.reshape(-1, self.channels) for latents in both)
        return whole, quartered

    def restored(self, symbols: Tensor, steps: Tensor) -> Tensor:
        """Latents for symbols ``[n, C]`` of tokens with these steps ``[n]``: exact, in units, float64."""
        tenths = symbols.double().mul_(10)
        tenths.add_(tenths.sign(), alpha=OUTWARD)
        tenths.mul_(steps.double()[:, None]).mul_(_LATENT_UNITS / 10)
        return tenths.round_().clamp_(-_MOST_LATENT, _MOST_LATENT)

    def pixels(self, latents: Tensor, quartered: Tensor) -> Tensor:
        """Residuals float64 ``[n, 3, patch, patch]`` of restored latents ``[n, C]``, multiples of 2^-19.

        Args:
            latents: Of so many tokens.
            quartered: Which of them are, bool ``[n]``.
        """
        cells = latents.view(-1, 3, self.patch, self.patch)
        sums, half = torch.empty_like(cells), self.patch // 2
        sums[~quartered] = samples(cells[~quartered], self.exact_dct)
        quarters = cells[quartered].view(-1, 3, half, 2, half, 2).permute(0, 1, 5, 3, 2, 4)  # y, x, kx, ky
        sums[quartered] = samples(quarters, self.exact_half_dct).transpose(3, 4).reshape(-1, *sums.shape[1:])
        sums.mul_(_SUM_UNITS / _LATENT_UNITS / 2 ** (2 * MATRIX_BITS)).round_()
        residuals = torch.einsum("dc,ndyx->ncyx", self.exact_colours, sums)
        return residuals.div_(_SUM_UNITS * 2**MATRIX_BITS)


class PredictedKind(Kind):
    """The same of pictures that are predicted, with a model of how."""

    def __init__(self, patch: int, *, restores: bool, coded_flags: bool, has_camera: bool) -> None:
        super().__init__(patch, restores=restores, coded_flags=coded_flags)
        self.side = SideModel(has_camera=has_camera)


class LoopLevel(nn.Module):
    """One level of the closed loop.

    Args:
        index: The level, 0 the coarsest, which has no base.
        patch: Pixels along a token's side.
        config: Of the level.
        camera_scale: As the attribute.
        coded_flags: As of the configuration of all levels.

    Attributes:
        smoothing: How much borders of tokens are smoothed.
        camera_scale: How many times larger its pictures are than those of level 0, along whose path cameras
            go; 0 where they have none.
        fineness: The entropy model of fineness, at level 0.
        opening: What an opening key is coded with.
        key: What a key is that is predicted from keys before it.
        between: What a picture is that lies between decoded ones.
        envelope: What predictions say of symbols.
    """

    def __init__(
        self,
        index: int,
        patch: int,
        config: LoopLevelConfig,
        camera_scale: int = 0,
        *,
        coded_flags: bool = False,
    ) -> None:
        super().__init__()
        self.index, self.smoothing, self.camera_scale = index, config.smoothing, camera_scale
        self.fineness = None if index else FinenessModel()
        self._shares = tuple(2.0 ** (-config.fineness * unit) for unit in range(-FINEST, FINEST + 1))
        has_camera, restores = not index and bool(camera_scale), config.restoration
        self.opening = Kind(patch, restores=restores, coded_flags=coded_flags)
        self.key, self.between = (
            PredictedKind(patch, restores=restores, coded_flags=coded_flags, has_camera=has_camera)
            for _ in range(2)
        )
        self.envelope = EnvelopeModel(patch, band_order(patch))

    def predicted(self, is_between: bool) -> PredictedKind:
        """What a picture is coded with that is predicted."""
        return self.between if is_between else self.key

    def steps(self, step: float, fineness: Tensor, grid: tuple[int, int]) -> Tensor:
        """Quantization steps float32 ``[h, w]`` on a grid of at least as many places as fineness has."""
        device, blocks = fineness.device, (fineness.shape[0], fineness.shape[1])
        if fineness is no_fineness(blocks, device):
            return _even_steps(step, self._shares, grid, device)
        own = _steps_of(step, self._shares, device)
        return repeated(own[fineness + FINEST], grid[0] // blocks[0])


class LoopModel(nn.Module):
    """All levels of the closed loop.

    Args:
        config: Their sizes.
    """

    def __init__(self, config: LoopConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = nn.ModuleList(
            LoopLevel(
                k,
                config.patch_side(k),
                level,
                config.camera_scale(k),
                coded_flags=config.coded_flags,
            )
            for k, level in enumerate(config.levels)
        )

    def level(self, index: int) -> LoopLevel:
        """One level."""
        level = self.levels[index]
        if not isinstance(level, LoopLevel):
            raise TypeError(f"level {index} is a {type(level).__name__}")
        return level


@lru_cache(maxsize=32)
def _even_steps(
    step: float, shares: tuple[float, ...], grid: tuple[int, int], device: torch.device
) -> Tensor:
    """The same step on all of a grid, float32 ``[h, w]``."""
    return _steps_of(step, shares, device)[FINEST].expand(grid).contiguous()


@lru_cache(maxsize=256)  # few steps come in a clip, each in many pictures
def _steps_of(step: float, shares: tuple[float, ...], device: torch.device) -> Tensor:
    """Shares of a step, float32 multiples of one over ``STEP_UNITS``."""
    units = [max(1, round(step * share * STEP_UNITS)) for share in shares]
    return torch.tensor(units, device=device) / STEP_UNITS
