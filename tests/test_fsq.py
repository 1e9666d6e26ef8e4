import torch

from mptvc.model.fsq import FSQ

HALVES = (1, 7, 63)


def test_quantization_is_idempotent_and_bounded():
    fsq = FSQ(HALVES)
    y_hat = fsq(torch.randn(1000, 3) * 40)
    assert torch.equal(fsq(y_hat), y_hat)
    assert (y_hat.abs().amax(0) == torch.tensor(HALVES)).all()


def test_every_channel_reaches_all_its_values():
    fsq = FSQ(HALVES)
    symbols = fsq.to_symbols(fsq(torch.linspace(-70, 70, 20001)[:, None].repeat(1, 3)))
    for channel, half in enumerate(HALVES):
        assert symbols[:, channel].unique().tolist() == list(range(2 * half + 1))


def test_symbols_return_to_latents():
    fsq = FSQ(HALVES)
    y_hat = fsq(torch.randn(50, 3) * 9)
    assert torch.equal(fsq.from_symbols(fsq.to_symbols(y_hat)), y_hat)


def test_gradient_passes_inside_the_range_only():
    y = torch.tensor([[0.4, 9.0, 20.0]], requires_grad=True)
    FSQ(HALVES)(y).sum().backward()
    assert y.grad.tolist() == [[1.0, 0.0, 1.0]]
