"""The trainer: crops, KLT start, tables, and a whole short run."""

import copy
import json
import resource
import shutil
from dataclasses import replace
from pathlib import PosixPath

import numpy as np
import pytest
import torch
from patterns import write_video

import mptvc
from mptvc.codec.stored import build_model, write_weights
from mptvc.codec.weights import read_weights
from mptvc.errors import VideoError, WeightsError
from mptvc.evaluate.metrics import QualityMeter
from mptvc.files.folders import find_videos
from mptvc.model.integer_network import logistic_frequencies
from mptvc.model.model import Model
from mptvc.train.card import model_card
from mptvc.train.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from mptvc.train.config import CropShape, TrainConfig
from mptvc.train.data import CropSampler, find_shards, to_video
from mptvc.train.loop import LevelTrainer, draw_gains, trade_off, validate
from mptvc.train.run import _fitted, default_model_config, train, validation_clip
from mptvc.train.shards import _names, prepare_shards
from mptvc.train.tables import TableCounter, estimated_bits

SHAPE = CropShape(2, 8, 64)


def moving_video(frames=20, height=80, width=96, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, : width + frames]
    waves = [np.sin(x / a + y / b + c) for a, b, c in rng.uniform(4, 30, (6, 3))]
    big = 127 + 20 * np.tensordot(np.stack(waves, -1), rng.normal(size=(6, 3)), 1)
    return np.stack([big[:, t : t + width] for t in range(frames)]).clip(0, 255).astype(np.uint8)


def stored(folder, videos):
    """Shots of arrays."""
    folder.mkdir()
    for number, video in enumerate(videos):
        np.save(folder / f"{number}.npy", video)
    return list(find_shards(folder).values())


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for seed in range(3):
        np.save(folder / f"clip{seed}.00.npy", moving_video(seed=seed))
    return folder


def quick_config(**budget):
    return TrainConfig(
        quantization_steps=(0.6, 0.4, 0.3),
        crops=(SHAPE,) * 3,
        warmup_steps=3,
        klt_batches=4,
        table_batches=2,
        validations=2,
        **budget,
    )


def test_default_model_is_that_of_the_packaged_weights(codec):
    model = Model(default_model_config())
    assert model.config == codec.model.config
    assert sum(p.numel() for p in model.parameters()) == 7_869_248


def test_batch_depends_on_seed_and_number_alone(tmp_path):
    shots = stored(tmp_path / "shots", [moving_video(seed=k) for k in range(3)])
    first, again = (CropSampler(shots, 7, 4) for _ in range(2))
    first.batch(SHAPE, 0)
    for a, b in zip(first.batch(SHAPE, 5), again.batch(SHAPE, 5), strict=True):
        assert torch.equal(a, b)
    for number, batch in zip((4, 5), first.batches(SHAPE, 4), strict=False):
        assert torch.equal(batch[0], again.batch(SHAPE, number)[0])
    assert not torch.equal(first.batch(SHAPE, 6)[0], again.batch(SHAPE, 5)[0])


def test_crops_have_their_shape_even_from_small_shots(tmp_path):
    sampler = CropSampler(stored(tmp_path / "shots", [moving_video(3, 40, 50)]), 0, 4)
    for number in range(20):
        pixels, shots = sampler.batch(SHAPE, number)
        assert pixels.shape == (2, 3, 8, 64, 64)
        assert shots.shape == (2, 2)


def test_joined_shots_meet_at_a_patch(tmp_path):
    light, dark = np.full((9, 64, 64, 3), 250, np.uint8), np.full((9, 64, 64, 3), 5, np.uint8)
    sampler, joined = CropSampler(stored(tmp_path / "shots", [light, dark]), 0, 4), 0
    for number in range(60):
        pixels, shots = sampler.batch(SHAPE, number)
        for clip, shot in zip(pixels.float().mean((1, 3, 4)), shots, strict=True):
            assert clip[:4].std() == clip[4:].std() == 0
            joined += int(shot[1] != shot[0])
            assert shot[1] != shot[0] or clip[0] == clip[4]
    assert joined > 5


def test_training_lowers_the_loss(shards, small_config):
    torch.manual_seed(0)
    model = Model(small_config)
    sampler = CropSampler(list(find_shards(shards).values()), 0, 4)
    config = replace(quick_config(minutes=(1, 0, 0)), warmup_steps=100)
    trainer = LevelTrainer(model, 0, config, sampler, torch.bfloat16)
    trainer.init_klt()
    pixels, shots = sampler.batch(CropShape(8, 8, 64), 999)

    def loss():
        with torch.no_grad():
            (out,) = model(to_video(pixels), shots, levels=1)
        return float(out.bits + trainer.lmbda * out.squared_error)

    before = loss()
    for _, batch in zip(range(60), trainer.batches(), strict=False):
        trainer.train_step(*batch, 0.0)
    assert loss() < 0.95 * before


def test_a_few_small_shots_are_read_as_often_as_they_teach(tmp_path, small_model):
    """Eight draws of each pixel: 60 frames of 64 x 48 need six batches of two crops, long shots all."""
    config = replace(quick_config(steps=(1, 1, 1)), crops=(CropShape(2, 32, 64),) * 3)
    for name, frames, most, drawn in (("few", 60, 24, 6), ("few", 60, 4, 4), ("long", 300, 24, 24)):
        folder = tmp_path / f"{name}{most}"
        shots = stored(folder, [np.zeros((frames, 48, 64, 3), np.uint8)])
        trainer = LevelTrainer(small_model, 0, config, CropSampler(shots, 0, 4), torch.float32)
        assert len(list(trainer._drawn(0, most))) == drawn


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
    alone = [TableCounter(model) for _ in symbols]
    for one, clip in zip(alone, symbols, strict=True):
        one.add(clip[None], None, torch.zeros(1, 3))
    assert np.array_equal(counter.counts, sum(one.counts for one in alone))
    fitted = counter.frequencies()
    assert (fitted.long().sum(1) == 2**24).all()
    assert estimated_bits(counter.counts, fitted) < estimated_bits(counter.counts, logistic_frequencies(48))


def test_whole_run_makes_weights_that_code_video(shards, tmp_path):
    records = []
    result = train(shards, tmp_path, quick_config(minutes=(0.01,) * 3), held_out=frozenset({"clip1.00"}),
                   report=records.append)  # fmt: skip
    assert result.finished
    assert [row["bpp"] for row in result.held_out] == sorted(row["bpp"] for row in result.held_out)
    write_weights(result.model, tmp_path)
    codec = mptvc.load(tmp_path, device="cpu")
    video = moving_video(8, seed=1)
    decoded = codec.decompress(codec.compress(video))
    meter = QualityMeter()
    meter.add(video, decoded.frames)
    assert meter.rgb > 20
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log == records
    assert {record["level"] for record in log if "level" in record} == {0, 1, 2}
    more = train(shards, tmp_path / "more", quick_config(minutes=(0.005, 0, 0)),
                 init=build_model(*read_weights(tmp_path)))  # fmt: skip
    assert more.held_out == []
    write_weights(more.model, tmp_path / "more")
    assert mptvc.load(tmp_path / "more").coder.weights_id != codec.coder.weights_id


def test_stopped_and_continued_run_equals_an_uninterrupted_one(shards, tmp_path):
    config = quick_config(steps=(3, 3, 0))
    whole = train(shards, tmp_path / "whole", config)
    for stop in (1, 3, 1):  # in level 0, in level 1, in level 1 again
        left = iter(range(stop))
        part = train(
            shards, tmp_path / "parts", config, should_stop=lambda left=left: next(left, None) is None
        )
    assert not part.finished
    last = train(shards, tmp_path / "parts", config)
    assert last.finished
    for (name, a), b in zip(whole.model.state_dict().items(), last.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_other_settings_do_not_go_on_with_a_run(shards, tmp_path):
    train(shards, tmp_path, quick_config(steps=(1, 0, 0)))
    with pytest.raises(ValueError, match="other settings"):
        train(shards, tmp_path, quick_config(steps=(2, 0, 0)))


def test_edited_settings_of_a_run_do_not_go_on_with_it(shards, tmp_path):
    """Even where the run's own file was edited, and not a copy."""
    train(shards, tmp_path, quick_config(steps=(1, 0, 0)))
    edited = replace(quick_config(steps=(1, 0, 0)), rate_linear=0.5)
    (tmp_path / "train.json").write_text(edited.to_json())
    with pytest.raises(ValueError, match="other settings"):
        train(shards, tmp_path, edited)


@pytest.mark.parametrize("crops", [(CropShape(2, 10, 64),) * 3, (CropShape(2, 8, 36),) * 3, (SHAPE,) * 2])
def test_crops_that_do_not_fit_the_model_are_refused(shards, tmp_path, crops):
    steps, quantization = (1,) * len(crops), (0.6,) * len(crops)
    with pytest.raises(ValueError, match=r"multiples of 4|3 levels"):
        train(shards, tmp_path, TrainConfig(steps=steps, crops=crops, quantization_steps=quantization))


def test_other_shots_do_not_go_on_with_a_run(shards, tmp_path):
    """They would make shots that were trained on into held-out ones."""
    config = quick_config(steps=(1, 0, 0))
    train(shards, tmp_path, config)
    with pytest.raises(ValueError, match="other training shots"):
        train(shards, tmp_path, config, held_out=frozenset({"clip1.00"}))


def test_checkpoint_comes_back_in_small_files(tmp_path):
    tensors = {f"t{k}": torch.randn(2**20) for k in range(7)} | {"step": torch.tensor(3.0)}
    for name in ("a", "b", "c"):
        path = save_checkpoint(tmp_path, name, tensors, {"level": 1})
    assert [p.name for p in checkpoints(tmp_path)] == ["b", "c"]
    sizes = [file.stat().st_size for file in path.glob("*.safetensors")]
    assert len(sizes) == 4
    assert max(sizes) < 12 * 2**20
    loaded, state = load_checkpoint(path)
    assert state["level"] == 1
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("file", ["state.json", "tensors-000.safetensors"])
def test_damaged_checkpoint_is_named(tmp_path, file):
    path = save_checkpoint(tmp_path, "a", {"t": torch.zeros(9)}, {})
    (path / file).write_bytes(b"{")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_checkpoint(path)


def test_a_checkpoint_that_is_saved_again_is_the_old_or_the_new_one(tmp_path, monkeypatch):
    """A run that is stopped right after it went on saves where it stood, in place of what it went on from."""

    def interrupted(folder, **_):
        if folder.is_dir():
            min(folder.iterdir()).unlink()
            raise KeyboardInterrupt

    path = save_checkpoint(tmp_path, "a", {"t": torch.zeros(9)}, {"level": 1})
    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, "a", {"t": torch.ones(9)}, {"level": 1})
    assert checkpoints(tmp_path) == [path]
    assert load_checkpoint(path)[0]["t"].unique() in (0, 1)


def test_settings_are_replaced_and_never_rewritten(shards, small_model, tmp_path):
    """Half of a train.json would be neither of a run nor of none."""
    out, kept = tmp_path / "out", tmp_path / "kept.json"
    for config in (quick_config(steps=(1, 1, 1)), quick_config(steps=(2, 1, 1))):
        init = copy.deepcopy(small_model)
        assert not train(shards, out, config, init=init, should_stop=lambda: True).finished
        shutil.rmtree(out / "checkpoints")
        assert TrainConfig.from_json((out / "train.json").read_text()) == config
        if not kept.exists():
            kept.hardlink_to(out / "train.json")
    assert TrainConfig.from_json(kept.read_text()) == quick_config(steps=(1, 1, 1))


def test_unfinished_checkpoint_is_not_found(tmp_path):
    save_checkpoint(tmp_path, "a", {"t": torch.zeros(9)}, {}).rename(tmp_path / ".b.part")
    assert checkpoints(tmp_path) == []


def test_settings_come_back_from_json():
    config = quick_config(minutes=(1.0, 2.0, 3.0))
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["[]", "{", '{"minutes": [1, 1]}', "{}", '{"minutes": [1, 1, 1], "foo": 1}',
                                  '{"minutes": [-1, 1, 1]}', '{"minutes": 3}', '{"steps": [1.5, 1, 1]}',
                                  '{"minutes": [1, 1, 1], "seed": "x"}', '{"minutes": [1, 1, "x"]}',
                                  '{"minutes": [1, 1, 1], "warmup_steps": 0}',
                                  '{"minutes": [1, 1, 1], "ema": 1}',
                                  '{"minutes": [1, 1, 1], "quantization_steps": [1, 1, 0]}',
                                  '{"minutes": [1, 1, 1], "crops": [{"batch": 0, "frames": 8, "size": 64}]}',
                                  '{"minutes": [1, 1, 1], "crops": [{"batch": 1}]}'])  # fmt: skip
def test_wrong_settings_are_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the messages differ
        TrainConfig.from_json(text)


def test_model_card_lists_data_with_licences(shards, tmp_path):
    (tmp_path / "MANIFEST.tsv").write_text(
        "file\tsource_repo\tpath\tlicence\nx/a.mp4\tsome/repo\tv/a.mp4\tCC0\n"
    )
    config = quick_config(steps=(1, 0, 0))
    result = train(shards, tmp_path / "run", config, held_out=frozenset({"clip0.00"}))
    videos = [tmp_path / "x" / "a.mp4", tmp_path / "b.mp4"]
    card = model_card(result, config, videos, frozenset({"clip0.00"}), "cpu", "default")
    assert "| a.mp4 | some/repo v/a.mp4 | CC0 |" in card
    assert "| b.mp4 |  | not stated |" in card
    assert f"| 3 | {result.held_out[2]['bpp']:.4f} | {result.held_out[2]['psnr']:.2f} |" in card
    assert str(tmp_path) not in card


def test_videos_become_one_shard_per_shot(tmp_path):
    from mptvc.evaluate.sample import SAMPLE_CUT, SAMPLE_SHAPE, write_sample

    write_sample(tmp_path / "sample.mkv")
    (tmp_path / "broken.mp4").write_text("no video")
    prepared = prepare_shards(find_videos([tmp_path]), tmp_path / "shards")
    assert list(prepared.failures) == [tmp_path / "broken.mp4"]
    assert prepared.shards == {tmp_path / "sample.mkv": ("sample.00", "sample.01")}
    shots = find_shards(tmp_path / "shards")
    assert [shot.shape[0] for shot in shots.values()] == [SAMPLE_CUT, SAMPLE_SHAPE[0] - SAMPLE_CUT]


def plain_video(path, values):
    """A video of a frame of one value after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, np.stack([np.full((32, 32, 3), value, np.uint8) for value in values]))


def test_videos_of_one_name_have_shards_of_their_own(tmp_path):
    for folder, value in (("a", 50), ("b", 200)):
        plain_video(tmp_path / folder / "clip.mkv", [value] * 9)
    assert prepare_shards(find_videos([tmp_path]), tmp_path / "shards").failures == {}
    means = {name: round(shot.pixels().mean()) for name, shot in find_shards(tmp_path / "shards").items()}
    assert means == {"a_clip.mkv.00": 50, "b_clip.mkv.00": 200}


def test_short_shots_are_left_out_and_a_video_of_them_is_named(tmp_path):
    plain_video(tmp_path / "v" / "late.mkv", [0] * 5 + [250] * 12)
    plain_video(tmp_path / "v" / "short.mkv", [0] * 5)
    prepared = prepare_shards(find_videos([tmp_path / "v"]), tmp_path / "shards")
    assert {path.name for path in prepared.failures} == {"short.mkv"}
    shots = find_shards(tmp_path / "shards")
    assert {name: shot.shape[0] for name, shot in shots.items()} == {"late.00": 12}


def test_shards_are_those_of_the_videos_of_this_call(tmp_path):
    """A video that was replaced is read again; one that is not named any more is not trained on."""
    for name, value in (("a", 50), ("b", 200)):
        plain_video(tmp_path / "v" / f"{name}.mkv", [value] * 9)
    prepare_shards(find_videos([tmp_path / "v"]), tmp_path / "shards")
    (tmp_path / "v" / "b.mkv").unlink()
    plain_video(tmp_path / "w" / "a.mkv", [90] * 12)
    (tmp_path / "w" / "a.mkv").rename(tmp_path / "v" / "a.mkv")
    prepared = prepare_shards(find_videos([tmp_path / "v"]), tmp_path / "shards")
    (names,) = prepared.shards.values()
    (shot,) = find_shards(tmp_path / "shards", frozenset(names)).values()
    assert (shot.shape[0], round(shot.pixels().mean())) == (12, 90)


class Named(PosixPath):
    """A path whose name counts how often it is compared."""

    compared = 0

    @property
    def stem(self):
        return CountedName(super().stem)


class CountedName(str):
    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        Named.compared += 1
        return str.__eq__(self, other)


def test_names_are_found_without_comparing_all_with_all():
    videos = [Named(f"v/{i}.mkv") for i in range(500)]
    assert [*_names(videos).values()] == [str(i) for i in range(500)]
    assert Named.compared < 10 * len(videos)


def test_names_that_would_be_equal_are_told_apart(tmp_path):
    for name in ("x/y_z.mkv", "x_y/z.mkv", "k/y_z.mkv", "k/z.mkv"):
        plain_video(tmp_path / "v" / name, [0] * 9)
    prepared = prepare_shards(find_videos([tmp_path / "v"]), tmp_path / "shards")
    assert len({shard for shards in prepared.shards.values() for shard in shards}) == 4


def test_interrupted_preparation_stores_no_part_of_a_video(tmp_path, monkeypatch):
    plain_video(tmp_path / "v" / "two.mkv", [0] * 9 + [250] * 9)
    whole, calls = np.save, []

    def save(path, array):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        whole(path, array)

    monkeypatch.setattr(np, "save", save)
    with pytest.raises(KeyboardInterrupt):
        prepare_shards(find_videos([tmp_path / "v"]), tmp_path / "shards")
    assert list((tmp_path / "shards").iterdir()) == []
    monkeypatch.undo()
    prepare_shards(find_videos([tmp_path / "v"]), tmp_path / "shards")
    assert len(find_shards(tmp_path / "shards")) == 2


def test_more_shots_than_a_process_may_hold_open(tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(80):
        np.save(tmp_path / f"{number}.npy", np.zeros((8, 8, 8, 3), np.uint8))
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, limit[1]))
    try:
        sampler = CropSampler(list(find_shards(tmp_path).values()), 0, 4)
        for number in range(80):
            sampler.batch(SHAPE, number)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


@pytest.mark.parametrize("shape", [(3, 80, 96, 3), (20, 40, 6, 3)])
def test_small_held_out_shots_are_extended(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))
    (shot,) = find_shards(tmp_path).values()
    config = default_model_config()
    pixels, shots = validation_clip(shot, config)
    assert [n % m for n, m in zip(pixels.shape[2:], (4, config.multiple, config.multiple), strict=True)] == [
        0
    ] * 3
    (row,) = validate(Model(config), [(pixels, shots)], 1, torch.float32)
    assert np.isfinite(row["bpp"])
    assert np.isfinite(row["psnr"])


def test_gains_do_not_follow_the_crops():
    """From one stream every shot would be seen at one gain."""
    config, steps = quick_config(steps=(1, 1, 1)), range(300)
    gains = np.log2([draw_gains(config, step, 3) for step in steps])
    assert np.abs(gains).max() == pytest.approx(0.75, abs=0.02)
    crops = np.array([np.random.default_rng((config.seed, step)).uniform(-1, 1, 3) for step in steps])
    assert np.abs(np.corrcoef(gains.T, crops.T)[:3, 3:]).max() < 0.3


def test_missing_data_is_reported(tmp_path):
    with pytest.raises(VideoError, match="no video files"):
        find_videos([tmp_path])
    with pytest.raises(VideoError, match=r"no \.npy shards"):
        find_shards(tmp_path)


def test_crops_are_no_larger_than_the_shots(tmp_path):
    shots = stored(tmp_path / "shots", [moving_video(frames=21, height=48, width=70)])
    config = TrainConfig(minutes=(1, 1, 1))
    fitted = _fitted(config.crops, shots, default_model_config())
    assert {(crop.frames, crop.size) for crop in fitted} == {(24, 96)}
    large = stored(tmp_path / "large", [np.zeros((40, 400, 20, 3), np.uint8)])
    assert _fitted(config.crops, large, default_model_config()) == config.crops


def test_the_log_goes_on_after_a_line_that_was_cut(shards, tmp_path):
    config = quick_config(steps=(1, 0, 0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "log.jsonl").write_bytes(b'{"level": 0, "st')
    train(shards, tmp_path / "out", config)
    cut, *whole = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert cut == '{"level": 0, "st'
    assert [json.loads(line)["level"] for line in whole] == [0, 0]
