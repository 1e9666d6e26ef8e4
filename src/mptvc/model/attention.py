"""Axial attention in a sliding window with rotary position embedding on t, y and x.

Layout everywhere: tokens ``[B, T, H, W, D]``. Heads are split over the three axes, so one block
mixes time, height and width with a single projection. Along y and x a token sees the tokens at
most ``window`` away; along t it sees the whole clip, and the coherence of the rotary phases is part of
every score, so that a phase jump at a cut keeps attention inside the shot without a mask. Cost is
linear in the number of tokens.

Sources: Ho et al., "Axial Attention in Multidimensional Transformers", 2019; Su et al.,
"RoFormer", 2021 (rotary embedding); Beltagy et al., "Longformer", 2020 (sliding window).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mptvc.model.config import ModelConfig

#: Queries that share one block of keys; wide enough for an efficient matrix product.
BLOCK = 8

#: Tokens that are worked on at once. Larger temporaries cost more in fresh memory than they save in calls.
PIECE = 2**14

Rotary = tuple[Tensor, Tensor]


def pieces(x: Tensor, axis: int) -> tuple[Tensor, ...]:
    """Cut tokens ``[B, T, H, W, D]`` along an axis into pieces of about ``PIECE`` tokens."""
    others = x.shape[:-1].numel() // x.shape[axis]
    return torch.split(x, max(1, PIECE // others), axis)


def join(parts: list[Tensor], axis: int) -> Tensor:
    """Undo ``pieces``."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)


def rotary_table(positions: Tensor, head_dim: int, base: float) -> Rotary:
    """Cosine and sine of every position's rotation.

    Args:
        positions: Coordinates ``[..., N]``, float64 so that large phase jumps stay exact, and so on the
            processor: not every device has that type.
        head_dim: Width of a head.
        base: Base of the geometric frequencies.

    Returns:
        Two float32 tensors ``[..., N, head_dim / 2]``.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64)
    angles = positions.double()[..., None] * base ** (-exponents / head_dim)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate ``[..., N, head_dim]``; channel i is paired with channel i + head_dim / 2."""
    cos, sin = (table.to(x.dtype) for table in rotary)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def phase_coherence(rotary: Rotary) -> Tensor:
    """How well the phases of two positions agree, ``[..., N, N]``: 1 when they are the same.

    It is the product of a rotated constant query and key. Neighbours in a shot are nearly in phase;
    across a phase jump all frequencies disagree.
    """
    cos, sin = rotary
    return (cos @ cos.transpose(-1, -2) + sin @ sin.transpose(-1, -2)) / cos.shape[-1]


def full_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention over all of axis N of ``[..., N, d]``, with ``bias`` added to the scores."""
    scores = q @ k.transpose(-1, -2) + bias.to(q.dtype)  # [..., N, N]
    return torch.softmax(scores, dim=-1) @ v


def window_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Attention of ``[..., N, d]`` in which token i sees tokens i - window to i + window.

    Queries go in blocks of ``BLOCK``; each block meets the ``BLOCK + 2 window`` keys around it and
    a mask cuts the corners.
    """
    n = q.shape[-2]
    if n <= BLOCK + window:
        scores = q @ k.transpose(-1, -2) + _band(n, n, 0, window, n, q)
        return torch.softmax(scores, dim=-1) @ v
    blocks = -(-n // BLOCK)
    tail = blocks * BLOCK - n
    span = BLOCK + 2 * window
    q = F.pad(q, (0, 0, 0, tail)).reshape(*q.shape[:-2], blocks, BLOCK, q.shape[-1])
    k = F.pad(k, (0, 0, window, window + tail)).unfold(-2, span, BLOCK)  # [..., nb, d, span]
    v = F.pad(v, (0, 0, window, window + tail)).unfold(-2, span, BLOCK)
    scores = q @ k + _band(BLOCK, span, window, window, n, q)  # [..., nb, BLOCK, span]
    out = torch.softmax(scores, dim=-1) @ v.transpose(-1, -2)
    return out.flatten(-3, -2)[..., :n, :]


def _band(rows: int, span: int, lead: int, window: int, n: int, like: Tensor) -> Tensor:
    """Additive mask ``[nb, rows, span]``: 0 where a query may look, minus infinity elsewhere."""
    blocks = -(-n // rows)
    block = torch.arange(blocks, device=like.device)[:, None, None] * rows
    query = torch.arange(rows, device=like.device)[None, :, None]
    key = torch.arange(span, device=like.device)[None, None, :] - lead
    seen = ((key - query).abs() <= window) & (key + block >= 0) & (key + block < n)
    # A padded query sees nothing real; let it see anything so that its row is no NaN.
    seen |= query + block >= n
    mask = torch.zeros(blocks, rows, span, dtype=like.dtype, device=like.device)
    mask.masked_fill_(~seen, float("-inf"))
    return mask[0] if blocks == 1 else mask


class AxialAttention(nn.Module):
    """Multi-head attention whose heads are shared out to the axes t, y and x."""

    def __init__(self, dim: int, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.head_dim, self.window = config.heads, config.head_dim, config.window
        inner = 3 * config.heads * config.head_dim
        self.phase_gain = config.phase_gain
        self.qkv = nn.Linear(dim, 3 * inner)
        self.out = nn.Linear(inner, dim)
        nn.init.zeros_(self.qkv.bias)

    def forward(self, h: Tensor, rotary: tuple[Rotary, Rotary, Rotary]) -> Tensor:
        """Mix tokens ``[B, T, H, W, D]``.

        Args:
            h: Normalised tokens.
            rotary: Tables of t ``[B, T, d/2]``, y ``[H, d/2]`` and x ``[W, d/2]``.
        """
        along_t = join([self._along_t(rows, rotary[0]) for rows in pieces(h, 2)], 2)
        outs = []
        for slices, mixed_t in zip(pieces(h, 1), pieces(along_t, 1), strict=True):
            mixed = [mixed_t, *(self._along(axis, slices, rotary[axis]) for axis in (1, 2))]
            outs.append(self.out(torch.cat(mixed, dim=-1)))
        return join(outs, 1)

    def _along_t(self, h: Tensor, rotary: Rotary) -> Tensor:
        cos, sin = rotary
        table = (cos[:, None, None, None], sin[:, None, None, None])
        coherence = self.phase_gain * phase_coherence(table)  # [B, 1, 1, 1, T, T]
        q, k, v = self._project(0, h, table)
        return full_attention(q, k, v, coherence).movedim(-2, 1).flatten(-2)

    def _along(self, axis: int, h: Tensor, rotary: Rotary) -> Tensor:
        q, k, v = self._project(axis, h, rotary)
        return window_attention(q, k, v, self.window).movedim(-2, axis + 1).flatten(-2)

    def _project(self, axis: int, h: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values, of one axis' heads ``[B, .., .., head, N, d]``."""
        width = self.heads * self.head_dim
        weight = self.qkv.weight.view(3, 3, width, -1)[:, axis].flatten(0, 1)
        bias = self.qkv.bias.view(3, 3, width)[:, axis].flatten()
        qkv = F.linear(h, weight, bias).unflatten(-1, (3, self.heads, self.head_dim))  # type: ignore[no-untyped-call]
        q, k, v = (x.movedim(axis + 1, -2) for x in qkv.unbind(-3))
        return rotate(q * self.head_dim**-0.5, rotary), rotate(k, rotary), v


class Block(nn.Module):
    """Pre-norm transformer block whose two branches start at zero."""

    def __init__(self, dim: int, config: ModelConfig) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = AxialAttention(dim, config)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp_in = nn.Linear(dim, config.mlp_ratio * dim)
        self.mlp_out = nn.Linear(config.mlp_ratio * dim, dim)
        for last in (self.attention.out, self.mlp_out):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, h: Tensor, rotary: tuple[Rotary, Rotary, Rotary]) -> Tensor:
        """Tokens ``[B, T, H, W, D]`` to tokens of the same shape."""
        h = h + self.attention(self.norm_attention(h), rotary)
        return join([x + self._mlp(x) for x in pieces(h, 1)], 1)

    def _mlp(self, h: Tensor) -> Tensor:
        out: Tensor = self.mlp_out(F.silu(self.mlp_in(self.norm_mlp(h))))
        return out
