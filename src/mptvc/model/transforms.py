"""Analysis and synthesis of one level: patches of pixels to latents and back, no convolution.

Both networks are a linear map, a few attention blocks, and a linear map. Started from the KLT they
*are* the KLT of the level's patches (see ``init_klt``); training adds what a linear map cannot do.
Each also sees the patches of the expanded coarser picture, which the decoder has too.

The many weak components of a patch gain little from attention but must be coded where a picture is rich, so
the last ``linear`` channels of a level pass it by: they are the KLT's, and cost two matrix products.
"""

import torch
from torch import Tensor, nn

from mptvc.model.attention import Block, Rotary, rotary_table
from mptvc.model.config import LevelConfig, ModelConfig

#: Share of components for which subspace iteration pays, its spare ones, and its rounds.
_FEW, _SPARE_SHARE, _ITERATIONS = 4, 4, 6


def patchify(x: Tensor, p_t: int, p: int) -> Tensor:
    """Cut video ``[B, 3, T, H, W]`` into patches ``[B, T/p_t, H/p, W/p, 3 p_t p p]``."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t // p_t, p_t, h // p, p, w // p, p)
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)  # [B, T, H, W, 3 p_t p p]


def unpatchify(patches: Tensor, p_t: int, p: int) -> Tensor:
    """Join patches ``[B, T, H, W, 3 p_t p p]`` to video ``[B, 3, T p_t, H p, W p]``."""
    b, t, h, w, _ = patches.shape
    x = patches.reshape(b, t, h, w, 3, p_t, p, p)
    return x.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(b, 3, t * p_t, h * p, w * p)


def frame_into_patches(frame: Tensor, index: int, patches: Tensor, p: int) -> None:
    """Write frame ``[3, h, w]`` as the frame ``index`` of one slice's patches ``[h/p, w/p, P]``."""
    height, width, _ = patches.shape
    cells = patches.view(height, width, 3, -1, p, p)[:, :, :, index]
    cells.copy_(frame.view(3, height, p, width, p).permute(1, 3, 0, 2, 4))


def frame_of_patches(patches: Tensor, index: int, p: int) -> Tensor:
    """Frame ``index`` ``[3, h, w]`` of one slice's patches ``[h/p, w/p, P]``."""
    height, width, _ = patches.shape
    cells = patches.view(height, width, 3, -1, p, p)[:, :, :, index]
    return cells.permute(2, 0, 3, 1, 4).reshape(3, height * p, width * p)


def temporal_positions(shots: Tensor, config: ModelConfig) -> Tensor:
    """Coordinates ``[B, T]`` of slices, float64: their index plus a phase jump for every cut before them.

    Args:
        shots: Shot number of each slice ``[B, T]``, integers that grow along T.
        config: Gives the phase jump.
    """
    index = torch.arange(shots.shape[1], dtype=torch.float64)
    return index + shots.cpu().double() * config.phase_jump


class _Trunk(nn.Module):
    """The attention blocks shared by both directions."""

    def __init__(self, level: LevelConfig, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.dim = config, level.dim
        self.blocks = nn.ModuleList(Block(level.dim, config) for _ in range(level.blocks))

    def forward(self, h: Tensor, shots: Tensor) -> Tensor:
        """Attention over the first D values of the stream ``[B, T, H, W, D + linear]``."""
        rotary = self._rotary(h, shots)
        attended, linear = h[..., : self.dim], h[..., self.dim :]
        for block in self.blocks:
            attended = block(attended, rotary)
        return _join(attended, linear)

    def _rotary(self, h: Tensor, shots: Tensor) -> tuple[Rotary, Rotary, Rotary]:
        def table(positions: Tensor) -> Rotary:
            cos, sin = rotary_table(positions, self.config.head_dim, self.config.rope_base)
            return cos.to(h.device), sin.to(h.device)

        _, _, height, width, _ = h.shape
        return (
            table(temporal_positions(shots, self.config)),
            table(torch.arange(height)),
            table(torch.arange(width)),
        )


class Analysis(nn.Module):
    """Patches of a level's residual to latents ``[B, T, H, W, C]``."""

    def __init__(self, index: int, config: ModelConfig) -> None:
        super().__init__()
        level = config.levels[index]
        self.embed = nn.Linear(config.patch_values(index), level.dim)
        self.scale = nn.Parameter(torch.ones(level.dim))
        self.embed_base = _base_embedding(index, config)
        self.linear = nn.Linear(config.patch_values(index), level.linear) if level.linear else None
        self.trunk = _Trunk(level, config)
        self.head = nn.Linear(level.dim, level.attended)

    def forward(self, patches: Tensor, base: Tensor | None, shots: Tensor) -> Tensor:
        """Transform patches ``[B, T, H, W, P]`` in [-2, 2].

        Args:
            patches: Residual of this level (level 0: the picture itself).
            base: Patches of the coarser picture ``[B, T, H, W, base_values]``, None at level 0.
            shots: Shot number of each slice ``[B, T]``.

        Returns:
            Latents in units of the quantization step.
        """
        return self.latents(self.tokens(patches, base), shots)

    def tokens(self, patches: Tensor, base: Tensor | None) -> Tensor:
        """The stream ``[..., D + linear]`` of patches ``[..., P]``, before attention."""
        h = _add_base(self.embed(patches).float() * self.scale, base, self.embed_base)
        return h if self.linear is None else _join(h, self.linear(patches).float())

    def latents(self, h: Tensor, shots: Tensor) -> Tensor:
        """Attention over the stream ``[B, T, H, W, D + linear]``, and the latents ``[B, T, H, W, C]``."""
        h = self.trunk(h, shots)
        dim = self.trunk.dim
        return _join(self.head(h[..., :dim]).float(), h[..., dim:])


class Synthesis(nn.Module):
    """Quantized latents ``[B, T, H, W, C]`` back to patches of a level's residual."""

    def __init__(self, index: int, config: ModelConfig) -> None:
        super().__init__()
        level = config.levels[index]
        self.attended = level.attended
        self.embed = nn.Linear(level.channels, level.dim)
        self.embed_base = _base_embedding(index, config)
        self.trunk = _Trunk(level, config)
        self.scale = nn.Parameter(torch.ones(level.dim))
        self.head = nn.Linear(level.dim, config.patch_values(index))
        self.linear = (
            nn.Linear(level.linear, config.patch_values(index), bias=False) if level.linear else None
        )

    def forward(self, y_hat: Tensor, base: Tensor | None, shots: Tensor) -> Tensor:
        """Reconstruct patches ``[B, T, H, W, P]``; arguments as in ``Analysis.forward``."""
        return self.patches(self.trunk(self.tokens(y_hat, base), shots))

    def tokens(self, y_hat: Tensor, base: Tensor | None) -> Tensor:
        """The stream ``[..., D + linear]`` of latents ``[..., C]``, before attention."""
        h = _add_base(self.embed(y_hat).float(), base, self.embed_base)
        return _join(h, y_hat[..., self.attended :])

    def patches(self, h: Tensor) -> Tensor:
        """Patches ``[..., P]`` from the stream after attention ``[..., D + linear]``."""
        dim = self.trunk.dim
        patches: Tensor = self.head(h[..., :dim] * self.scale)
        return patches if self.linear is None else patches + self.linear(h[..., dim:])


def _join(attended: Tensor, linear: Tensor) -> Tensor:
    """Both parts of a stream; the same tensor where there is no linear part."""
    return torch.cat([attended, linear], -1) if linear.shape[-1] else attended


def _add_base(h: Tensor, base: Tensor | None, embed: nn.Linear | None) -> Tensor:
    """Add what the coarser picture says to the stream, which stays in float32."""
    if base is None or embed is None:
        return h
    out: Tensor = h + embed(base)
    return out


def _base_embedding(index: int, config: ModelConfig) -> nn.Linear | None:
    if index == 0:
        return None
    embed = nn.Linear(config.base_values, config.levels[index].dim, bias=False)
    nn.init.zeros_(embed.weight)
    return embed


def leading_components(covariance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The directions in which there is most, by subspace iteration where few of many are wanted.

    Args:
        covariance: Symmetric ``[P, P]`` without negative eigenvalues.
        count: N, at most P.

    Returns:
        At least N variances, the largest first, and their orthonormal directions ``[P, N]``, float64; the
        same for the same covariance.

    Source: Halko, Martinsson, Tropp, Finding structure with randomness (2011), algorithm 4.4.
    """
    covariance, width = covariance.double(), count + count // _SPARE_SHARE
    if _FEW * width > len(covariance):
        variances, vectors = torch.linalg.eigh(covariance)
        return variances.flip(0), vectors.flip(1)
    start = torch.randn(len(covariance), width, generator=torch.Generator().manual_seed(0))
    basis = start.to(covariance)
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(covariance @ basis)[0]
    variances, turn = torch.linalg.eigh(basis.T @ covariance @ basis)
    return variances.flip(0), basis @ turn.flip(1)


def init_klt(analysis: Analysis, synthesis: Synthesis, mean: Tensor, covariance: Tensor, step: float) -> None:
    """Set both networks to the KLT of patches with the given mean and covariance.

    The stream carries whitened components, so that every channel has the same weight in the
    normalised blocks; ``scale`` keeps their deviations apart from the orthonormal maps, so that one
    learning rate suits them all.

    Args:
        analysis: Network to set.
        synthesis: Network to set.
        mean: Mean patch ``[P]``.
        covariance: Covariance ``[P, P]``.
        step: Quantization step of an orthonormal coefficient, pixels being in [-1, 1].
    """
    dim, attended = analysis.embed.out_features, analysis.head.out_features
    wanted = max(dim, attended + (0 if analysis.linear is None else analysis.linear.out_features))
    variances, vectors = leading_components(covariance, wanted)
    with torch.no_grad():
        if analysis.linear is not None and synthesis.linear is not None:
            weak = vectors[:, attended : attended + analysis.linear.out_features]
            analysis.linear.weight.copy_(weak.T / step)
            analysis.linear.bias.copy_(-(weak.T @ mean.double()) / step)
            synthesis.linear.weight.copy_(weak * step)
        # A component far below the step is never coded; whitening it fully would only amplify noise.
        sigma, vectors = variances[:dim].clamp_min((step / 8) ** 2).sqrt(), vectors[:, :dim]
        analysis.embed.weight.copy_(vectors.T)
        analysis.embed.bias.copy_(-(vectors.T @ mean.double()))
        analysis.scale.copy_(1 / sigma)
        analysis.head.weight.copy_(torch.diag(sigma)[:attended] / step)
        analysis.head.bias.zero_()
        synthesis.embed.weight.zero_()
        synthesis.embed.weight[:, :attended].copy_(torch.diag(step / sigma)[:, :attended])
        synthesis.embed.bias.zero_()
        synthesis.scale.copy_(sigma)
        synthesis.head.weight.copy_(vectors)
        synthesis.head.bias.copy_(mean)
