"""The trainer: crops, KLT start, tables, and a whole short run."""

import json

import numpy as np
import pytest
import torch

import mptvc
from mptvc.errors import VideoError
from mptvc.integer_network import logistic_frequencies
from mptvc.metrics import PsnrMeter
from mptvc.model import Model
from mptvc.train.data import CropSampler, CropShape, open_shards, to_video
from mptvc.train.loop import LevelTrainer, TrainConfig, trade_off
from mptvc.train.run import default_model_config, train
from mptvc.train.shards import find_videos, prepare_shards
from mptvc.train.tables import TableCounter, estimated_bits

SHAPE = CropShape(2, 8, 64)


def moving_video(frames=20, height=80, width=96, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, : width + frames]
    waves = [np.sin(x / a + y / b + c) for a, b, c in rng.uniform(4, 30, (6, 3))]
    big = 127 + 20 * np.tensordot(np.stack(waves, -1), rng.normal(size=(6, 3)), 1)
    return np.stack([big[:, t : t + width] for t in range(frames)]).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for seed in range(3):
        np.save(folder / f"clip{seed}.00.npy", moving_video(seed=seed))
    return folder


def quick_config(minutes):
    return TrainConfig(
        steps_of_level=(0.6, 0.4, 0.3),
        minutes_of_level=minutes,
        crops=(SHAPE,) * 3,
        klt_batches=4,
        table_batches=2,
    )


def test_default_model_has_about_five_million_parameters():
    count = sum(p.numel() for p in Model(default_model_config()).parameters())
    assert 4_000_000 < count < 6_000_000


def test_batch_depends_on_seed_and_number_alone():
    shots = [moving_video(seed=k) for k in range(3)]
    first, again = (CropSampler(shots, 7, 4) for _ in range(2))
    first.batch(SHAPE, 0)
    for a, b in zip(first.batch(SHAPE, 5), again.batch(SHAPE, 5), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.batch(SHAPE, 6)[0], again.batch(SHAPE, 5)[0])


def test_crops_have_their_shape_even_from_small_shots():
    sampler = CropSampler([moving_video(3, 40, 50)], 0, 4)
    for number in range(20):
        pixels, scenes = sampler.batch(SHAPE, number)
        assert pixels.shape == (2, 3, 8, 64, 64)
        assert scenes.shape == (2, 2)


def test_joined_shots_meet_at_a_patch():
    light, dark = np.full((9, 64, 64, 3), 250, np.uint8), np.full((9, 64, 64, 3), 5, np.uint8)
    sampler, joined = CropSampler([light, dark], 0, 4), 0
    for number in range(60):
        pixels, scenes = sampler.batch(SHAPE, number)
        for clip, shot in zip(pixels.float().mean((1, 3, 4)), scenes, strict=True):
            assert clip[:4].std() == clip[4:].std() == 0
            joined += int(shot[1] != shot[0])
            assert shot[1] != shot[0] or clip[0] == clip[4]
    assert joined > 5


def test_training_lowers_the_loss(shards):
    torch.manual_seed(0)
    model = Model(default_model_config())
    sampler = CropSampler(list(open_shards(shards).values()), 0, 4)
    trainer = LevelTrainer(model, 0, quick_config((1, 0, 0)), sampler)
    trainer.init_klt()
    pixels, scenes = sampler.batch(CropShape(8, 8, 64), 999)

    def loss():
        with torch.no_grad():
            (out,) = model(to_video(pixels), scenes, levels=1)
        return float(out.bits + trainer.lmbda * out.squared_error)

    before = loss()
    for _ in range(40):
        trainer.train_step(0.0)
    assert loss() < 0.95 * before


def test_trade_off_is_the_slope_of_uniform_quantization():
    """At high rate D = step^2 / 12 and a halved step costs one bit: dD/dR = -ln 2 step^2 / 6."""
    step, small = 0.5, 1e-5
    distortion = (step**2 - (step * 2**-small) ** 2) / 12
    assert np.isclose(trade_off(step), small / distortion, rtol=1e-3)


def test_fitted_tables_spend_fewer_bits(small_model):
    model = small_model.level(0).entropy_model
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, 20, 20, model.halves.numel())
    peaked = torch.empty(shape).exponential_(1.0, generator=generator).floor()
    symbols = torch.minimum(peaked * torch.randn(shape, generator=generator).sign(), model.halves)
    counter = TableCounter(model)
    counter.add(symbols, None, torch.zeros(2, 3))
    assert counter.counts.sum() == symbols.numel() + 2 * 3 * 5 * 5 * 4
    fitted = counter.frequencies()
    assert (fitted.long().sum(1) == 2**24).all()
    assert estimated_bits(counter.counts, fitted) < estimated_bits(counter.counts, logistic_frequencies(48))


def test_whole_run_writes_weights_that_code_video(shards, tmp_path):
    ladder = train(shards, tmp_path, quick_config((0.01,) * 3), held_out=frozenset({"clip1.00"}))
    assert [row["bpp"] for row in ladder] == sorted(row["bpp"] for row in ladder)
    codec = mptvc.load(tmp_path, device="cpu")
    video = moving_video(8, seed=1)
    decoded = codec.decompress(codec.compress(video))
    meter = PsnrMeter()
    meter.add(video, decoded.frames)
    assert meter.rgb > 20
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert {json.loads(line)["level"] for line in log} == {0, 1, 2}
    again = train(shards, tmp_path / "more", quick_config((0.005, 0, 0)), init=tmp_path)
    assert again == []
    assert mptvc.load(tmp_path / "more").clips.weights_id != codec.clips.weights_id


def test_videos_become_one_shard_per_shot(tmp_path):
    from mptvc.demo import SAMPLE_CUT, SAMPLE_SHAPE, write_sample

    write_sample(tmp_path / "sample.mkv")
    (tmp_path / "broken.mp4").write_text("no video")
    failures = prepare_shards(find_videos([tmp_path]), tmp_path / "shards")
    assert len(failures) == 1
    assert "broken.mp4" in failures[0]
    shots = open_shards(tmp_path / "shards")
    assert [len(shot) for shot in shots.values()] == [SAMPLE_CUT, SAMPLE_SHAPE[0] - SAMPLE_CUT]


def test_missing_data_is_reported(tmp_path):
    with pytest.raises(VideoError, match="no video files"):
        find_videos([tmp_path])
    with pytest.raises(VideoError, match=r"no \.npy shards"):
        open_shards(tmp_path)
