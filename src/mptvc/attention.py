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

from mptvc.config import ModelConfig

#: Queries that share one block of keys; wide enough for an efficient matrix product.
BLOCK = 8

Rotary = tuple[Tensor, Tensor]


def rotary_table(positions: Tensor, head_dim: int, base: float) -> Rotary:
    """Cosine and sine of every position's rotation.

    Args:
        positions: Coordinates ``[..., N]``, float64 so that large phase jumps stay exact.
        head_dim: Width of a head.
        base: Base of the geometric frequencies.

    Returns:
        Two float32 tensors ``[..., N, head_dim / 2]``.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64, device=positions.device)
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
        b, t, height, width, _ = h.shape
        qkv = self.qkv(h).view(b, t, height, width, 3, 3, self.heads, self.head_dim)
        q, k, v = qkv.unbind(4)  # [B, T, H, W, axis, head, d]
        scale = self.head_dim**-0.5
        cos, sin = rotary[0]
        time = (cos[:, None, None, None], sin[:, None, None, None])
        coherence = self.phase_gain * phase_coherence(time)  # [B, 1, 1, 1, T, T]

        def to_axis(x: Tensor, axis: int) -> Tensor:
            return x[:, :, :, :, axis].movedim(axis + 1, -2)  # [B, .., .., head, N, d]

        outs = []
        for axis, table in enumerate((time, rotary[1], rotary[2])):
            q_axis = rotate(to_axis(q, axis) * scale, table)
            k_axis = rotate(to_axis(k, axis), table)
            v_axis = to_axis(v, axis)
            if axis == 0:
                out = full_attention(q_axis, k_axis, v_axis, coherence)
            else:
                out = window_attention(q_axis, k_axis, v_axis, self.window)
            outs.append(out.movedim(-2, axis + 1).flatten(-2))  # [B, T, H, W, head * d]
        mixed: Tensor = self.out(torch.cat(outs, dim=-1))
        return mixed


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
        out: Tensor = h + self.mlp_out(F.silu(self.mlp_in(self.norm_mlp(h))))
        return out
