"""The claims of the attention: window, relative positions, phase jump."""

from dataclasses import replace

import pytest
import torch

from mptvc.model.attention import (
    AxialAttention,
    full_attention,
    phase_coherence,
    rotary_table,
    rotate,
    window_attention,
)
from mptvc.model.transforms import Analysis, temporal_positions


def randomise(module):
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.3)
    return module.eval()


@pytest.mark.parametrize("n", [1, 5, 12, 13, 40, 83])
def test_blocks_equal_a_plain_band_mask(n):
    q, k, v = torch.randn(3, 2, n, 4).double()
    far = (torch.arange(n)[:, None] - torch.arange(n)).abs() > 3
    scores = (q @ k.transpose(-1, -2)).masked_fill(far, float("-inf"))
    expected = torch.softmax(scores, -1) @ v
    assert torch.allclose(window_attention(q, k, v, 3), expected, atol=1e-12)


def test_rotated_product_depends_on_the_offset_alone():
    q, k = torch.randn(2, 1, 8).double()
    table = rotary_table(torch.arange(50), 8, 10000.0)
    table = (table[0].double(), table[1].double())
    products = rotate(q.repeat(50, 1), table) @ rotate(k.repeat(50, 1), table).T
    assert torch.allclose(products[5, 9], products[30, 34], atol=1e-5)


def test_token_outside_the_window_has_no_influence(small_config):
    config = replace(small_config, window=2)
    attention = randomise(AxialAttention(16, config))
    rotary = tuple(rotary_table(torch.arange(n), 8, 1e4) for n in (2, 30, 30))
    rotary = ((rotary[0][0][None], rotary[0][1][None]), rotary[1], rotary[2])
    h = torch.randn(1, 2, 30, 30, 16)
    changed = h.clone()
    changed[:, :, 15, 15] += 5
    difference = (attention(h, rotary) - attention(changed, rotary)).abs().amax((0, 1, 4))
    reached = difference > 0
    assert reached[13:18, 15].all()
    assert reached[15, 13:18].all()
    reached[13:18, 15] = reached[15, 13:18] = False
    assert not reached.any()


def test_shift_by_a_patch_shifts_latents_by_a_token(small_config):
    analysis = randomise(Analysis(0, small_config))
    patches = torch.randn(1, 2, 40, 48, small_config.patch_values(0))
    shots = torch.zeros(1, 2)
    with torch.no_grad():
        whole = analysis(patches, None, shots)
        moved = analysis(patches.roll((1, 3), (2, 3)), None, shots).roll((-1, -3), (2, 3))
    reach = 2 * small_config.window + 3
    inside = (slice(None), slice(None), slice(reach, -reach), slice(reach, -reach))
    scale = whole.abs().max()
    assert torch.allclose(whole[inside], moved[inside], atol=float(scale) * 1e-4)


def test_positions_jump_at_every_cut(small_config):
    positions = temporal_positions(torch.tensor([[0, 0, 1, 1, 2]]), small_config)
    jump = small_config.phase_jump
    assert positions.tolist() == [[0, 1, jump + 2, jump + 3, 2 * jump + 4]]


def test_inside_a_shot_the_jump_cancels(small_config):
    analysis = randomise(Analysis(0, small_config))
    patches = torch.randn(1, 4, 6, 6, small_config.patch_values(0))
    with torch.no_grad():
        first = analysis(patches, None, torch.zeros(1, 4))
        later = analysis(patches, None, torch.full((1, 4), 7))
    assert torch.allclose(first, later, atol=float(first.abs().max()) * 1e-3)


def test_phases_alone_keep_attention_inside_the_shot(small_config):
    """With equal contents less than 1 % of the mass crosses a cut, whatever the number of shots."""
    config = replace(small_config, head_dim=16)
    shots = torch.tensor([[0, 0, 1, 1, 1, 2, 3, 3]])
    table = rotary_table(temporal_positions(shots, config)[0], 16, config.rope_base)
    equal = torch.zeros(8, 16)
    mass = full_attention(equal, equal, torch.eye(8), config.phase_gain * phase_coherence(table))
    crossing = shots[0][:, None] != shots[0]
    assert (mass * crossing).sum(1).max() < 0.01


def test_coherence_is_one_in_phase():
    coherence = phase_coherence(rotary_table(torch.arange(6), 16, 1e4))
    assert torch.allclose(coherence.diagonal(), torch.ones(6))
    assert (coherence <= 1 + 1e-6).all()
