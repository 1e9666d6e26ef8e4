"""The packaged weights on real video with real cuts."""

from itertools import islice

import numpy as np
import pytest
import torch

from mptvc.evaluate.metrics import QualityMeter
from mptvc.model.attention import AxialAttention, full_attention, phase_coherence, rotate
from mptvc.video.cuts import detect_shots
from mptvc.video.source import VideoSource

pytestmark = pytest.mark.clips


@pytest.fixture(scope="module")
def cut_video(clips):
    """16 frames of 256 x 448 pixels around the first cut of an animation."""
    with VideoSource(clips / "train" / "sintel_cuts.mp4") as source:
        return np.stack([frame.pixels[:256, :448] for frame in islice(source.frames(), 16, 32)])


def test_every_level_improves_a_clip_with_a_cut(codec, cut_video):
    shots = detect_shots(cut_video)
    assert shots == (8, 8)
    data = codec.compress(cut_video, shots=shots)
    scores = []
    for levels in (1, 2, 3):
        meter = QualityMeter()
        meter.add(cut_video, codec.decompress(data, levels=levels).frames)
        scores.append(meter.rgb)
    assert scores[0] > 20
    assert scores[1] > scores[0] + 2
    assert scores[2] > scores[1] + 2


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_shot_does_not_depend_on_what_the_other_one_shows(codec, cut_video, levels):
    def score(frames):
        meter = QualityMeter()
        data = codec.compress(frames, shots=(8, 8))
        meter.add(frames[:8], codec.decompress(data, levels=levels).frames[:8])
        return meter.rgb

    swapped = cut_video.copy()
    swapped[8:] = 255 - cut_video[8:, ::-1]
    assert score(swapped) == pytest.approx(score(cut_video), abs=0.1)


def test_attention_stays_inside_real_shots(codec, cut_video):
    """In every temporal head less than 1 % of the mass crosses the cut."""
    shots = torch.tensor([[0, 0, 1, 1]])
    crossing = shots[0][:, None] != shots[0]
    shares = []

    def measure(module, args):
        h, (time, *_) = args
        table = tuple(part[:, None, None, None] for part in time)
        qkv = module.qkv(h).unflatten(-1, (3, 3, module.heads, module.head_dim))[..., 0, :, :]
        q, k, _ = (x.movedim(1, -2) for x in qkv.unbind(-3))  # [B, H, W, head, T, d]
        q, k = rotate(q * module.head_dim**-0.5, table), rotate(k, table)
        mass = full_attention(q, k, torch.eye(4), module.phase_gain * phase_coherence(table))
        shares.append((mass * crossing).sum(-1).mean((0, 1, 2, 4)))

    layers = [m for m in codec.model.modules() if isinstance(m, AxialAttention)]
    hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
    x = torch.from_numpy(cut_video.transpose(3, 0, 1, 2).copy())[None].float() / 127.5 - 1
    with torch.no_grad():
        codec.model(x, shots)
    for hook in hooks:
        hook.remove()
    assert len(shares) == len(layers)
    assert torch.stack(shares).max() < 0.01
