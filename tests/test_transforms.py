import pytest
import torch

from mptvc.model.model import Level
from mptvc.model.transforms import (
    Analysis,
    Synthesis,
    frame_into_patches,
    frame_of_patches,
    init_klt,
    leading_components,
    patchify,
    unpatchify,
)


def test_unpatchify_inverts_patchify():
    x = torch.randn(2, 3, 8, 16, 24)
    patches = patchify(x, 4, 8)
    assert patches.shape == (2, 2, 2, 3, 768)
    assert torch.equal(unpatchify(patches, 4, 8), x)


def test_frames_and_whole_slices_make_the_same_patches():
    x = torch.randn(3, 4, 16, 24)
    expected = patchify(x[None], 4, 8)[0, 0]
    patches = torch.empty_like(expected)
    for f in range(4):
        frame_into_patches(x[:, f], f, patches, 8)
        assert torch.equal(frame_of_patches(expected, f, 8), x[:, f])
    assert torch.equal(patches, expected)


@pytest.mark.parametrize("index", [0, 2])
def test_untrained_networks_are_the_klt(small_config, index):
    """With as many channels as the data has dimensions, the reconstruction is exact up to the step."""
    torch.manual_seed(0)
    assert [level.linear for level in small_config.levels] == [0, 4, 4]
    basis = torch.linalg.qr(torch.randn(small_config.patch_values(index), 12))[0]
    patches = (torch.randn(1, 4, 10, 10, 12) * torch.arange(12, 0, -1)) @ basis.T
    flat = patches.flatten(0, 3)
    level = Level(index, small_config)
    init_klt(level.analysis, level.synthesis, flat.mean(0), flat.T.cov(), step=0.05)
    shots = torch.zeros(1, 4)
    with torch.no_grad():
        y = level.analysis(patches, None, shots)
        y_hat = y.round()
        x_hat = level.synthesis(y_hat, None, shots)
    error = (x_hat - patches).square().sum(-1).mean()
    assert error < 12 * 0.05**2 / 12 * 1.1
    deviations = y.flatten(0, -2).std(0)
    assert torch.equal(deviations.sort(descending=True).values, deviations)


@pytest.mark.parametrize("rank", [12, 768])
def test_few_components_of_many_hold_as_much_as_exact_ones(rank):
    """Of patches with a falling spectrum, and of fewer than there are values."""
    torch.manual_seed(0)
    patches = torch.randn(rank, 768) / torch.arange(1, 769) ** 0.75
    covariance = (patches.T @ patches) / rank
    variances, vectors = leading_components(covariance, 100)
    exact = torch.linalg.eigvalsh(covariance.double()).flip(0)[:100]
    assert vectors.shape[1] < 768
    held = vectors[:, :100].T @ covariance.double() @ vectors[:, :100]
    assert abs(held.trace() / exact.sum() - 1) < 1e-4
    assert torch.allclose(held.diagonal(), variances[:100])
    assert torch.allclose(vectors.T @ vectors, torch.eye(vectors.shape[1]).double(), atol=1e-9)
    assert all(map(torch.equal, leading_components(covariance, 100), (variances, vectors)))


def test_linear_channels_pass_the_attention_by(small_config):
    """They depend on their own patch alone, and it depends on them alone."""
    torch.manual_seed(0)
    analysis, synthesis = Analysis(2, small_config), Synthesis(2, small_config)
    for network in (analysis, synthesis):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, 0, 0.1)
    torch.nn.init.zeros_(synthesis.embed.weight)
    patches, y_hat, shots = torch.randn(1, 2, 6, 6, 768), torch.randn(1, 2, 6, 6, 12), torch.zeros(1, 2)
    with torch.no_grad():
        y, x = analysis(patches, None, shots), synthesis(y_hat, None, shots)
        patches[0, 0, 2, 2], y_hat[0, 0, 2, 2, 8:] = 0, 0
        y_moved = (analysis(patches, None, shots) != y)[0]
        x_moved = (synthesis(y_hat, None, shots) != x)[0].any(-1)
    assert y_moved[..., :8].any(-1).sum() > 1
    assert y_moved[..., 8:].any(-1).sum() == 1
    assert x_moved.sum() == 1
    assert x_moved[0, 2, 2]
