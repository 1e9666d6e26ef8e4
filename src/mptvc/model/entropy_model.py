"""A scale hyperprior in exact integers: table rows for coding, differentiable bits for training.

One network per level says, for every symbol, which row of a table of integer frequencies codes it.
It reads only integers that the decoder has: the hyper symbols, the coarser level's symbols, the
previous temporal slice, and the channel groups of this slice that came before. The same code runs
in training and in coding; there is no exported second version that could differ.

The encoder chooses its symbols here too: a latent takes the neighbouring integer on the side of its
predicted mean where the bits saved are worth more than the error added. The decoder never knows.

**Why it is exact.** Weights are integers of at most 127, activations integers of at most 127, carried
in float32. Every operand is therefore exact in any reduced format that a device may choose for a
matrix product (bfloat16 and TF32 have at least 8 significant bits), and every partial sum stays below
2^24 (``accumulator_bound``, checked when weights are saved and loaded), so float32 sums are exact in
any order. Between layers there are shifts by powers of two, floors and clamps.

Sources: Balle et al., "Variational image compression with a scale hyperprior", 2018; Balle et al.,
"Integer networks for data compression with latent-variable models", 2019; Minnen and Singh,
"Channel-wise autoregressive entropy models", 2020; Karczewicz et al., "Rate distortion optimized
quantization", 2008.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mptvc.model.config import MAX_HALF, ModelConfig
from mptvc.model.fsq import FSQ, floor_ste, round_ste
from mptvc.model.integer_network import (
    ACTIVATION_ONE,
    ALPHABET,
    FRACTIONS,
    GATE_ONE,
    LIMIT,
    PRECISION,
    GroupMixer,
    TableBits,
    clamp_inward,
    logistic_frequencies,
    table_index,
    table_rows,
    whole_part,
)

#: Turns ``(rows uint8 [n], differences int16 [n] or None, means int8 [n])`` into the differences: an encoder
#: records what it is given, a decoder reads what it is asked for; both check rows and means.
SymbolCoder = Callable[[np.ndarray, np.ndarray | None, np.ndarray], np.ndarray]

#: Bits that one squared quantization step of error is worth to the encoder. 6 / ln 2 = 8.7 would hold for
#: independent symbols and a linear synthesis; 16 gave the least loss of 12 to 26 with trained networks.
ERROR_BITS = 16.0


def _log_magnitudes() -> Tensor:
    """round(16 log2(1 + n)) for n = 0 .. 9 * 63, at most 127, by integer arithmetic alone."""
    table = [(((1 + n) ** 32 * 2).bit_length() - 1) // 2 for n in range(9 * MAX_HALF + 1)]
    return torch.tensor(table, dtype=torch.float32).clamp_max(LIMIT)


class HyperAnalysis(nn.Module):
    """Hyper-latents of a slice from its symbols; only the encoder runs it, in floating point."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.stride = config.hyper_stride
        self.inner = nn.Linear(channels, 64)
        self.outer = nn.Linear(64, config.hyper_channels)

    def forward(self, magnitudes: Tensor) -> Tensor:
        """Log magnitudes ``[..., H, W, C]`` to ``[..., ceil(H/s), ceil(W/s), hyper_channels]``."""
        h = F.silu(self.inner(magnitudes / ACTIVATION_ONE))
        *lead, height, width, dim = h.shape
        s = self.stride
        h = F.pad(h, (0, 0, 0, -width % s, 0, -height % s))
        h = h.reshape(*lead, h.shape[-3] // s, s, h.shape[-2] // s, s, dim).mean(dim=(-4, -2))
        out: Tensor = self.outer(h)
        return out


class EntropyModel(nn.Module):
    """The entropy model of one level.

    ``q`` below are centred integers as the FSQ gives them, ``[B, T, H, W, C]`` in float32.
    """

    frequencies: Tensor
    bits_table: Tensor
    log_magnitude: Tensor
    halves: Tensor

    def __init__(self, index: int, config: ModelConfig) -> None:
        super().__init__()
        level = config.levels[index]
        self.config, self.groups = config, level.groups
        parent = config.levels[index - 1].channels if index else 0
        self.hyper_analysis = HyperAnalysis(level.channels, config)
        self.hyper_fsq = FSQ((config.hyper_values // 2,) * config.hyper_channels)
        self.hyper_scale = nn.Parameter(torch.full((config.hyper_channels,), 14.0))
        self.hyper_gate = nn.Parameter(torch.full((config.hyper_channels,), 16.0))
        n_in = level.channels + parent + config.hyper_channels + 1
        mixers = []
        for size in level.groups:
            mixers.append(GroupMixer(n_in, level.hidden, size))
            n_in += size
        self.mixers = nn.ModuleList(mixers)
        rows = config.scales * FRACTIONS
        self.register_buffer("frequencies", torch.ones(rows, ALPHABET, dtype=torch.int32))
        self.register_buffer("bits_table", torch.zeros(rows, ALPHABET), persistent=False)
        self.register_buffer("log_magnitude", _log_magnitudes(), persistent=False)
        self.register_buffer("halves", torch.tensor(level.halves).float(), persistent=False)
        self.set_frequencies(logistic_frequencies(config.scales))

    def set_frequencies(self, frequencies: Tensor) -> None:
        """Use these frequencies, int32 ``[4 scales, ALPHABET]``, each row summing to 2^24."""
        self.frequencies.copy_(frequencies)
        bits = PRECISION - torch.log2(frequencies.cpu().double())  # not every device has float64
        self.bits_table.copy_(bits.float())

    def accumulator_bound(self) -> float:
        """Largest absolute value of any partial sum in the network; must be below 2^24."""
        return max(m.accumulator_bound() for m in self.mixers if isinstance(m, GroupMixer))

    # Training

    def forward(
        self, q: Tensor, parent: Tensor | None, fresh: Tensor, rounded: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Bits of all symbols, differentiable.

        Args:
            q: Symbols ``[B, T, H, W, C]``.
            parent: Symbols of the coarser level ``[B, T, ceil(H/2), ceil(W/2), C']`` or None.
            fresh: Whether a slice has no predecessor in its shot and clip, bool ``[B, T]``.
            rounded: The rounded latents that the hyper symbols describe; the symbols by default.

        Returns:
            Bits of the symbols ``[B, T, H, W, C]`` and of the hyper symbols.
        """
        with torch.autocast(q.device.type, enabled=False):
            q = q.float()
            keep = (~fresh)[:, :, None, None, None]
            past = F.pad(q, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1] * keep
            z = self._hyper_symbols(q.detach() if rounded is None else rounded)
            z_past = F.pad(z, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1] * keep
            z_bits = self._bits(z, *self._hyper_prediction(z_past))
            context = self._context(past.detach(), parent, z, fresh, q.shape[3])
            bits, first = [], 0
            for index, size in enumerate(self.groups):
                mine = slice(first, first + size)
                mean, scale = self._predict(index, context, past[..., mine])
                bits.append(self._bits(q[..., mine], mean, scale))
                context = torch.cat([context, self._neighbourhood(q[..., mine].detach())], -1)
                first += size
            return torch.cat(bits, -1), z_bits

    def _bits(self, q: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        out: Tensor = TableBits.apply(self.bits_table, q, mean, scale)  # type: ignore[no-untyped-call]
        return out

    # Coding

    @torch.no_grad()
    def code(
        self,
        coder: SymbolCoder | None,
        shape: tuple[int, int, int],
        parent: Tensor | None,
        fresh: list[bool],
        y: Tensor | None = None,
        *,
        choose: bool = False,
    ) -> Tensor:
        """Walk through one clip in coding order: to encode where ``y`` is given, else to decode.

        Args:
            coder: Records or returns the differences between symbols and their predicted means; None where
                the symbols that are chosen are all that is wanted.
            shape: Tokens ``(T, H, W)``.
            parent: Symbols of the coarser level ``[T, ceil(H/2), ceil(W/2), C']`` or None.
            fresh: For each slice, whether it has no predecessor in its shot and clip.
            y: Symbols ``[T, H, W, C]`` to encode, or latents.
            choose: ``y`` are latents, for which symbols are to be chosen.

        Returns:
            The symbols ``[T, H, W, C]``, int8 on the processor: of a large picture they are many.

        Raises:
            ValueError: A decoded symbol is outside its channel's range, or there is nothing to decode from.
        """
        parents = None if parent is None else parent[None]
        latents = None if y is None else y[None]
        starts = torch.tensor([fresh], device=self.halves.device)
        return self._walk(coder, (1, *shape), parents, starts, latents, choose)[0]

    @torch.no_grad()
    def choose(
        self, y: Tensor, parent: Tensor | None, fresh: Tensor, coder: SymbolCoder | None = None
    ) -> Tensor:
        """The symbols that ``code`` chooses for latents ``[B, T, H, W, C]``; arguments as in ``forward``.

        The coder, if there is one, is given what all clips of the batch have to code in a step at once.
        """
        shape = (y.shape[0], y.shape[1], y.shape[2], y.shape[3])
        return self._walk(coder, shape, parent, fresh, y, True).to(y.device).float()

    def _walk(
        self,
        coder: SymbolCoder | None,
        shape: tuple[int, int, int, int],
        parent: Tensor | None,
        fresh: Tensor,
        y: Tensor | None,
        choose: bool,
    ) -> Tensor:
        batch, slices, height, width = shape
        with torch.autocast(self.halves.device.type, enabled=False):
            s, config, coded = self.config.hyper_stride, self.config, []
            past = self.halves.new_zeros(batch, height, width, self.halves.numel())
            z_past = self.halves.new_zeros(batch, -(-height // s), -(-width // s), config.hyper_channels)
            for t in range(slices):
                keep = (~fresh[:, t])[:, None, None, None]
                latents = None if y is None else y[:, t].to(past)
                above = None if parent is None else parent[:, t].to(past)
                past, z_past = self._walk_slice(
                    coder, past * keep, z_past * keep, above, fresh[:, t], latents, choose
                )
                coded.append(past.to("cpu", torch.int8))
            return torch.stack(coded, 1)

    def _walk_slice(
        self,
        coder: SymbolCoder | None,
        past: Tensor,
        z_past: Tensor,
        parent: Tensor | None,
        fresh: Tensor,
        y: Tensor | None,
        choose: bool,
    ) -> tuple[Tensor, Tensor]:
        if y is not None:
            y = torch.minimum(torch.maximum(y, -self.halves), self.halves)
        z = None if y is None else self._hyper_symbols(y.round())
        z = _exchange(coder, z, *self._hyper_prediction(z_past), self.hyper_fsq.halves)
        context = self._context(past, parent, z, fresh, past.shape[2])
        coded, first = [], 0
        for index, size in enumerate(self.groups):
            mine = slice(first, first + size)
            mean, scale = self._predict(index, context, past[..., mine])
            given = None if y is None else y[..., mine]
            if given is not None and choose:
                given = self._cheapest(given, mean, scale)
            coded.append(_exchange(coder, given, mean, scale, self.halves[mine]))
            if index + 1 < len(self.groups):
                context = torch.cat([context, self._neighbourhood(coded[-1])], -1)
            first += size
        return torch.cat(coded, -1), z

    def _cheapest(self, y: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """Round latents to the nearest integer or the next one towards the mean, whichever costs less."""
        nearest = y.round()
        whole = whole_part(mean)
        moved = torch.nonzero((nearest != whole).flatten()).squeeze(1)
        y, q, whole = (x.flatten()[moved] for x in (y, nearest, whole))
        row = table_rows(mean.flatten()[moved], whole, scale.flatten()[moved])
        other = q + torch.sign(whole - q)
        costs = [
            self.bits_table.flatten()[table_index(row, c - whole)] + ERROR_BITS * (y - c).square()
            for c in (q, other)
        ]
        chosen = nearest.flatten()
        chosen[moved] = torch.where(costs[1] < costs[0], other, q)
        return chosen.view(nearest.shape)

    # The integer network

    def _hyper_symbols(self, q: Tensor) -> Tensor:
        """Hyper symbols that describe integers near the symbols; only an encoder needs them."""
        z: Tensor = self.hyper_fsq(self.hyper_analysis(self._magnitude(q)))
        return z

    def _magnitude(self, q: Tensor) -> Tensor:
        return self.log_magnitude[q.abs().to(torch.int32)]

    def _neighbourhood(self, q: Tensor) -> Tensor:
        """Log of the sum of magnitudes over 3 x 3 tokens, ``[..., H, W, C]``."""
        a = F.pad(q.abs(), (0, 0, 1, 1, 1, 1))
        a = a[..., :-2, :, :] + a[..., 1:-1, :, :] + a[..., 2:, :, :]
        a = a[..., :, :-2, :] + a[..., :, 1:-1, :] + a[..., :, 2:, :]
        return self.log_magnitude[a.to(torch.int32)]

    def _context(self, past: Tensor, parent: Tensor | None, z: Tensor, fresh: Tensor, width: int) -> Tensor:
        """Everything known before the first group, integers ``[..., H, W, n]``."""
        grid = past.shape[-3:-1]
        parts = [self._neighbourhood(past)]
        if parent is not None:
            parts.append(_spread(self._neighbourhood(parent.float()), 2, grid))
        parts.append(_spread(z * ACTIVATION_ONE, self.config.hyper_stride, grid))
        flag = (fresh * LIMIT)[..., None, None, None].expand(*past.shape[:-1], 1)
        return torch.cat([*parts, flag], -1)

    def _predict(self, index: int, context: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Mean in quarters and scale index of a group, ``[..., C_g]``."""
        known = past.detach()
        mixer = self.mixers[index]
        scale, gate = mixer(context, self._magnitude(known), self._neighbourhood(known), self.config.scales)
        return _gated_mean(gate, past), scale

    def _hyper_prediction(self, z_past: Tensor) -> tuple[Tensor, Tensor]:
        scale = clamp_inward(round_ste(self.hyper_scale), self.config.scales - 1)
        gate = clamp_inward(round_ste(self.hyper_gate), GATE_ONE)
        return _gated_mean(gate, z_past), scale.expand_as(z_past)


def _gated_mean(gate: Tensor, past: Tensor) -> Tensor:
    """Gate * past in quarters, rounded: gate 64 repeats the past, gate 0 predicts zero."""
    return floor_ste((gate * past + GATE_ONE / 8) / (GATE_ONE / 4))


def _spread(x: Tensor, factor: int, grid: tuple[int, ...]) -> Tensor:
    """Repeat tokens ``[..., h, w, C]`` along y and x and crop to ``grid``."""
    x = x.repeat_interleave(factor, -3)[..., : grid[0], :, :]
    return x.repeat_interleave(factor, -2)[..., : grid[1], :]


def _exchange(
    coder: SymbolCoder | None, q: Tensor | None, mean: Tensor, scale: Tensor, halves: Tensor
) -> Tensor:
    """Hand one step's rows to the coder if there is one, and return the symbols ``[..., C]``."""
    if coder is None:
        if q is None:
            raise ValueError("decoding needs a coder")
        return q
    whole = whole_part(mean)
    rows = table_rows(mean, whole, scale).to(torch.uint8).cpu().numpy()
    given = None
    if q is not None:
        given = (q - whole).to(torch.int16).cpu().numpy().reshape(-1)
    means = whole.to(torch.int8).cpu().numpy().reshape(-1)
    differences = coder(rows.reshape(-1), given, means)
    if q is None:
        read = torch.from_numpy(differences).to(whole.device).reshape(whole.shape)
        q = read.float() + whole
        if bool((q.abs() > halves).any()):
            raise ValueError("a symbol is outside its channel's range")
    return q
