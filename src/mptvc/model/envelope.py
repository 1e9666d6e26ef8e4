"""What a token's prediction says of where its symbols are: an exact network.

Where a prediction has edges or texture, what it leaves has them too, along the same directions and at the
same frequencies. So a network looks at the spectrum of a token's predicted luma and says how large the
magnitudes of its channels may be expected to be in proportion, which is a spectral envelope. How sums of
magnitudes are shared, and under which rows symbols are coded, follows from it (see `splitting`, `activity`).

Everything is exact, so that all machines have the same rows:

- **Spectrum.** The exact DCT (see `loop_model`) of luma in integers of 0 to 255, whole or quartered as the
  token is, its magnitudes rounded to 1/64. A magnitude m at a step becomes the level
  ``floor(8 log2(m + l)) - floor(8 log2(l))``, kept to 127, with l = round(64 LEAST step), at least 1; a
  logarithm is linear between powers of two, which is how float32 stores an integer.
- **Network.** The largest levels of 8 x 8 cells and the token's shape go through a hidden layer; each channel
  adds its own frequency's level. Weights and activations are integers of at most 127 carried in float32, sums
  stay below 2^24 (see `integer_network`).
- **Envelope.** The outcome is a logarithm of the same kind, in eighths of an octave from 16 on: 8 k + j means
  that ``(16 + 2 j) 2^k`` is expected.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mptvc.model.dct import MATRIX_BITS, dct_matrix, exact, frequencies, quartered_frequencies
from mptvc.model.fsq import floor_ste, round_ste
from mptvc.model.integer_network import LIMIT, WEIGHT_ONE, ClampInward, IntegerLinear, integer_weight
from mptvc.native import calls, entropy

#: Hidden activations, and cells of the spectrum along each axis.
_HIDDEN, _CELLS = 48, 8
#: Units of a magnitude in a pixel's; share of a step below which one says little.
_UNITS, _LEAST = 64, 0.058
#: Levels in an octave, and the bits of a float32 below an octave's eighths, where it counts octaves from 127.
OCTAVE, _BELOW_EIGHTHS, _BIAS = 8, 20, 127
#: Octaves of what an outcome of 0 expects, and where outcomes start.
_FIRST_OCTAVE, _START = 4, 96
#: Tokens that are computed at once: what is computed of them stays in the cache.
_AT_ONCE = 1024


class EnvelopeModel(nn.Module):
    """The network of one level.

    Args:
        patch: Pixels along a token's side.
        order: The channels in the order in which sums of them are asked for.
    """

    dct: Tensor
    half_dct: Tensor
    frequency_of: Tensor

    def __init__(self, patch: int, order: Tensor) -> None:
        super().__init__()
        self.patch, self.cells = patch, min(_CELLS, patch)
        channels = len(order)
        self.inner = IntegerLinear(self.cells**2 + 1, _HIDDEN, gain=0.5)
        self.outer = IntegerLinear(_HIDDEN, channels, gain=0.1)
        self.own = nn.Parameter(torch.zeros(channels))
        self.shape_bias = nn.Parameter(torch.zeros(channels))
        with torch.no_grad():
            self.outer.bias.fill_(_START * WEIGHT_ONE)
        self.register_buffer("dct", exact(dct_matrix(patch)), persistent=False)
        self.register_buffer("half_dct", exact(dct_matrix(patch // 2)), persistent=False)
        self.register_buffer("frequency_of", order % patch**2, persistent=False)

    @torch.no_grad()
    def levels(self, cells: Tensor, steps: Tensor, quartered: Tensor) -> Tensor:
        """Levels of the spectra of tokens, integers of 0 to 127 in float32 ``[n, patch^2]``.

        Args:
            cells: Predicted luma, uint8 ``[n, patch, patch]``.
            steps: Quantization steps ``[n]``.
            quartered: Which tokens are, bool ``[n]``.
        """
        values, spectra = cells.double(), torch.empty_like(cells, dtype=torch.float64)
        spectra[~quartered] = frequencies(values[~quartered], self.dct)
        spectra[quartered] = quartered_frequencies(values[quartered], self.half_dct)
        spectra = spectra.flatten(1).abs_().mul_(_UNITS / 2 ** (2 * MATRIX_BITS)).round_()
        least = steps.double().mul(_UNITS * _LEAST).round_().clamp_(min=1)[:, None]
        return (eighths(spectra.add_(least)) - eighths(least)).clamp_(max=int(LIMIT)).float()

    def forward(self, levels: Tensor, quartered: Tensor) -> Tensor:
        """Outcomes for the channels in their order, integers of 0 to 127 in float32 ``[n, C]``."""
        side = self.patch // self.cells
        cells = levels.view(-1, self.cells, side, self.cells, side).amax((2, 4)).flatten(1)
        shape = quartered[:, None].float()
        hidden = floor_ste(self.inner(torch.cat([cells, LIMIT * shape], 1)) / WEIGHT_ONE)
        own = levels.index_select(1, self.frequency_of)
        total = torch.addcmul(self.outer(hidden.clamp(0, LIMIT)), own, integer_weight(self.own))
        total = torch.addcmul(total, shape, round_ste(self.shape_bias))
        outcome: Tensor = ClampInward.apply(floor_ste(total / WEIGHT_ONE), 0, LIMIT)  # type: ignore[no-untyped-call]
        return outcome

    def accumulator_bound(self) -> float:
        """Largest absolute value that any partial sum can reach."""
        own = float(integer_weight(self.own.detach()).abs().max()) * LIMIT
        own += float(self.shape_bias.detach().round().abs().max())
        return max(self.inner.accumulator_bound(), self.outer.accumulator_bound() + own)

    @property
    @torch.no_grad()
    def compiled(self) -> entropy.EnvelopeNet:
        """The network in the form that its kernel takes."""
        weights = [
            x for layer in (self.inner, self.outer) for x in (integer_weight(layer.weight).T, layer.bias)
        ]
        arrays = [calls.array(x.round()) for x in (*weights, integer_weight(self.own), self.shape_bias)]
        transforms = self.dct.numpy(), self.half_dct.numpy()
        return entropy.EnvelopeNet(self.patch, _UNITS * _LEAST, transforms, arrays, self.frequency_of.numpy())

    @torch.no_grad()
    def sums_below(self, cells: Tensor, steps: Tensor, quartered: Tensor) -> Tensor:
        """What is expected of the channels before each place of their order, int32 ``[n, C + 1]``.

        Arguments as of ``levels``.
        """
        below = torch.zeros(len(cells), len(self.own) + 1, dtype=torch.int32, device=cells.device)
        parts = (torch.split(x, _AT_ONCE) for x in (below, cells, steps, quartered))
        for into, some, mine, shapes in zip(*parts, strict=True):
            expected = magnitudes(self(self.levels(some, mine, shapes), shapes))
            torch.cumsum(expected, 1, dtype=torch.int32, out=into[:, 1:])
        return below


@dataclass(frozen=True)
class Envelope:
    """What a picture's prediction says of its tokens.

    Attributes:
        model: The network.
        luma: Of the prediction, uint8 ``[H, W]``.
        steps: Quantization steps of the tokens ``[h, w]``.
    """

    model: EnvelopeModel
    luma: Tensor
    steps: Tensor

    def cells(self, tokens: Tensor) -> Tensor:
        """Luma of tokens of these numbers, row by row, uint8 ``[n, patch, patch]``."""
        rows, columns = self.steps.shape
        patch = self.model.patch
        cells = self.luma.view(rows, patch, columns, patch).transpose(1, 2)
        return cells[tokens // columns, tokens % columns]

    def sums_below(self, tokens: Tensor, quartered: Tensor) -> Tensor:
        """As of the model, for tokens of these numbers, of which some are quartered, bool ``[n]``."""
        if calls.serve(self.luma.device):
            luma, steps = calls.array(self.luma), calls.array(self.steps)
            some = calls.array(tokens), calls.array(quartered)
            return torch.from_numpy(self.model.compiled.expected(luma, *some, steps))
        return self.model.sums_below(self.cells(tokens), self.steps.flatten()[tokens], quartered)

    def levels(self, tokens: Tensor, quartered: Tensor) -> Tensor:
        """Levels of their spectra, likewise."""
        return self.model.levels(self.cells(tokens), self.steps.flatten()[tokens], quartered)

    def of_rows(self, rows: slice) -> "Envelope":
        """That of some rows of tokens."""
        pixels = slice(rows.start * self.model.patch, rows.stop * self.model.patch)
        return Envelope(self.model, self.luma[pixels], self.steps[rows])


def eighths(values: Tensor) -> Tensor:
    """``floor(8 log2)`` of integers from 1 on, int32; the logarithm is linear between powers of two."""
    return (values.float().view(torch.int32) >> _BELOW_EIGHTHS) - OCTAVE * _BIAS


def magnitudes(outcomes: Tensor) -> Tensor:
    """What outcomes in float32 expect, int32: the inverse."""
    stored = outcomes.to(torch.int32).add_(OCTAVE * (_BIAS + _FIRST_OCTAVE))
    return stored.bitwise_left_shift_(_BELOW_EIGHTHS).view(torch.float32).to(torch.int32)
