import torch

from mptvc.model import Level
from mptvc.transforms import frame_into_patches, frame_of_patches, init_klt, patchify, unpatchify


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


def test_untrained_networks_are_the_klt(small_config):
    """With as many channels as the data has dimensions, the reconstruction is exact up to the step."""
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(768, 8))[0]
    patches = (torch.randn(1, 4, 10, 10, 8) * torch.arange(8, 0, -1)) @ basis.T
    flat = patches.flatten(0, 3)
    level = Level(0, small_config)
    init_klt(level.analysis, level.synthesis, flat.mean(0), flat.T.cov(), step=0.05)
    scenes = torch.zeros(1, 4)
    with torch.no_grad():
        y = level.analysis(patches, None, scenes)
        y_hat = y.round()
        x_hat = level.synthesis(y_hat, None, scenes)
    error = (x_hat - patches).square().sum(-1).mean()
    assert error < 12 * 0.05**2 / 12 * 1.1
    assert y[..., 0].std() > y[..., 3].std()
