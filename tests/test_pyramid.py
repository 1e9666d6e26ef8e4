import torch

from mptvc.model.pyramid import expand, reduce


def test_reduce_inverts_expand():
    x = torch.rand(2, 3, 7, 11)
    assert torch.allclose(reduce(expand(x)), x, atol=1e-6)


def test_residual_restores_the_picture():
    x = torch.rand(3, 8, 12)
    coarse = reduce(x)
    assert torch.allclose(expand(coarse) + (x - expand(coarse)), x, atol=1e-6)


def test_expand_reproduces_a_ramp_inside_the_picture():
    ramp = torch.arange(16.0).repeat(16, 1)
    fine = torch.arange(32.0).repeat(32, 1) / 2 - 0.25
    assert torch.allclose(expand(ramp)[:, 6:-6], fine[:, 6:-6], atol=1e-5)


def test_expand_of_one_pixel_is_flat():
    assert torch.equal(expand(torch.full((1, 1), 0.3)), torch.full((2, 2), 0.3))
