import torch

from mptvc.model.pyramid import decimated, expand, halved, reduce


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


def test_integers_are_halved_and_doubled_without_loss_of_a_mean():
    rng = torch.Generator().manual_seed(3)
    x = torch.randint(-255, 256, (3, 9, 14), generator=rng, dtype=torch.int16)
    assert expand(x).dtype == torch.int16
    assert torch.equal(reduce(expand(x)), x)


def test_integers_follow_the_real_numbers():
    rng = torch.Generator().manual_seed(4)
    x = torch.randint(0, 256, (3, 16, 20), generator=rng, dtype=torch.int16)
    assert (expand(x) - expand(x.float())).abs().max() <= 1.5  # half a step on each axis
    assert (reduce(x) - reduce(x.float())).abs().max() <= 0.5


def test_the_largest_differences_stay_in_16_bits():
    """A checkerboard of cells is what swings most."""
    y, x = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    for pattern in (y + x, y // 2 + x // 2, y, x):
        extreme = ((pattern % 2) * 510 - 255).to(torch.int16)
        wide = expand(extreme.float())
        assert wide.abs().max() < 2**15 / 69.5  # 69.5 times a cell is the largest sum on the way
        assert (expand(extreme) - wide).abs().max() <= 1.5


def test_decimated_pictures_are_doubled_with_less_error():
    rng = torch.Generator().manual_seed(5)
    noise = torch.rand(1, 3, 64, 96, generator=rng)
    picture = (255 * torch.nn.functional.avg_pool2d(noise, 3, 1, 1)[0]).to(torch.uint8)

    def error(half):
        return (expand(half.to(torch.int16)) - picture.to(torch.int16)).float().square().mean()

    assert error(decimated(picture)) < 0.98 * error(halved(picture))
    exact = expand(torch.rand(3, 16, 24, generator=rng) * 60 + 90).round().to(torch.uint8)
    inner = (slice(None), slice(4, -4), slice(4, -4))
    assert (expand(decimated(exact).to(torch.int16)) - exact.to(torch.int16))[inner].abs().max() <= 3


def test_flat_pictures_stay_flat():
    for value in (0, 7, 255):
        assert (decimated(torch.full((3, 4, 6), value, dtype=torch.uint8)) == value).all()
