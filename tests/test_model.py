import torch


def test_every_level_is_differentiable_and_counts_bits(small_model):
    x = torch.rand(1, 3, 8, 64, 96) * 2 - 1
    outputs = small_model(x, torch.tensor([[0, 1]]))
    loss = sum(out.bits + out.squared_error for out in outputs)
    loss.backward()
    for k, out in enumerate(outputs):
        shrink = small_model.config.shrink(k)
        assert out.x_hat.shape == (1, 3, 8, 64 // shrink, 96 // shrink)
        assert out.bits > 0
        assert small_model.level(k).analysis.embed.weight.grad.abs().sum() > 0
    small_model.zero_grad(set_to_none=True)


def test_encode_and_decode_agree_with_the_training_pass(small_model):
    x = torch.rand(1, 3, 4, 32, 32) * 2 - 1
    with torch.no_grad():
        outputs = small_model(x)
        latents = small_model.encode(x)
        assert torch.equal(latents[2], outputs[2].symbols)
        assert torch.allclose(small_model.decode(latents), outputs[2].x_hat, atol=1e-5)
        assert torch.allclose(small_model.decode(latents[:1]), outputs[0].x_hat, atol=1e-5)


def test_decode_is_differentiable_in_the_video(small_model):
    x = (torch.rand(1, 3, 4, 32, 32) * 2 - 1).requires_grad_()
    small_model.decode(small_model.encode(x)).square().sum().backward()
    assert x.grad.abs().sum() > 0
    small_model.zero_grad(set_to_none=True)
