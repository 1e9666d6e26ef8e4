"""The benchmark's arithmetic; its times are nobody's promise."""

import json

import numpy as np
import pytest
import torch
from command_line import FAILED, USAGE, is_one_error
from patterns import moving, write_video
from torch.utils.flop_counter import FlopCounterMode

import mptvc
from mptvc.cli.main import main
from mptvc.evaluate.bench import SCENES, bench
from mptvc.evaluate.scenes import scene_frames
from mptvc.evaluate.stopwatch import SUM, TOTAL, Stopwatch


@pytest.fixture(scope="module")
def result():
    return bench(mptvc.load("tokenizer", device="cpu"), ((64, 64), (128, 128)), frames=(5,))


def test_scenes_differ_in_how_much_they_move():
    change = {}
    for scene in SCENES:
        frames = scene_frames(scene, 3, 48, 64)
        assert np.array_equal(frames, scene_frames(scene, 3, 48, 64))
        assert frames.std() > 30
        change[scene] = np.abs(np.diff(frames.astype(int), axis=0)).mean()
    assert change["still"] == 0
    assert 1 < change["slow"] < change["fast"] / 3


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 17)], ids=str)
def test_scenes_have_any_size_and_length(size):
    assert scene_frames("fast", 97, *size).shape == (97, *size, 3)


def test_every_scene_is_measured_once_and_the_last_at_all_sizes(result):
    measured = [(one.scene, one.width, one.height, one.frames) for one in result.sizes]
    assert measured == [("still", 64, 64, 5), ("slow", 64, 64, 5), ("fast", 64, 64, 5), ("fast", 128, 128, 5)]
    assert all(one.coded == () for one in result.sizes)


def test_what_moves_more_takes_more_bits_tokens_and_products():
    """With prediction."""
    codec = mptvc.load("codec", device="cpu")
    still, fast = bench(codec, ((32, 32),), frames=(2,), scenes=("still", "fast")).sizes
    assert still.bpp < fast.bpp
    assert still.coded == (0.5, 0.5, 0.5)  # all of one frame, nothing of the next
    assert min(fast.coded) > 0.7
    for job in ("encode", "decode"):
        works = [getattr(one, job)["total"] for one in (still, fast)]
        assert 0 < works[0].flops < works[1].flops
        assert min(work.touched for work in works) > 1000 * still.pixels


def test_what_operations_touch_is_counted():
    """Views cost nothing, what is gathered counts as often as it is taken, tensors come in once."""
    a, b, watch = torch.ones(4, 6), torch.ones(4, 6), Stopwatch(torch.device("cpu"))
    watch.counting = True

    def work():
        return watch("stage", lambda: ((a + b).view(24) + a.flatten())[torch.tensor([3])])

    counted = watch.run(work)[1]["stage"]
    assert counted.touched == (3 + 3) * 24 * 4 + (4 + 4 + 8)
    assert counted.bytes == 2 * 24 * 4 + 8 + 4
    assert counted.flops == 0


def test_products_are_those_that_torch_counts(codec):
    x, watch = torch.zeros(1, 3, 4, 64, 64), Stopwatch(torch.device("cpu"))
    watch.counting = True
    with torch.inference_mode():
        counted = watch.run(lambda: watch("stage", codec.model.encode, x))[1]["stage"]
        with FlopCounterMode(display=False) as counter:
            codec.model.encode(x)
    assert counted.flops == counter.get_total_flops() > 0


def test_a_video_is_measured_in_its_size(tmp_path, cli):
    write_video(tmp_path / "a [b].mkv", moving(3, 40, 56))
    options = ("bench", "--input", "a [b].mkv", "--weights", "tokenizer", "--frames")
    shown = cli(*options, "1,3")
    assert shown.code == 0
    assert shown.out.count("a [b].mkv, 56x40") == 2
    few = cli(*options, "4")
    assert few.code == FAILED
    assert is_one_error(few)
    assert "a [b].mkv has 3 frames, --frames asks for 4" in few.err
    for other in (("--sizes", "32x32"), ("--scenes", "slow")):
        both = cli(*options, "1", *other)
        assert both.code == USAGE
        assert "leave out --sizes and --scenes" in both.err


def test_another_scene_is_refused(cli):
    refused = cli("bench", "--scenes", "slow,quick")
    assert refused.code == USAGE
    assert is_one_error(refused)
    assert "--scenes are of still, slow, fast, found quick" in refused.err


def test_stages_add_up_to_no_more_than_the_total(result):
    for size in result.sizes:
        for stages in (size.encode, size.decode):
            parts = sum(stage.seconds for name, stage in stages.items() if name not in (SUM, TOTAL))
            assert 0 < parts <= stages[SUM].seconds
            assert stages[TOTAL].seconds > 0


def test_operations_grow_with_the_picture(result):
    small, large = result.sizes[-2:]
    for name in ("analysis", "synthesis"):
        assert 3 < large.encode[name].flops / small.encode[name].flops < 5
    assert large.encode["total"].flops == sum(
        stage.flops for name, stage in large.encode.items() if name not in (SUM, TOTAL)
    )


def test_operations_are_those_of_the_networks(result):
    """Two linear maps of a patch at each level alone are so many products."""
    small = result.sizes[0]
    config = mptvc.load("tokenizer", device="cpu").model.config
    tokens = [2 * (64 // 8 // 4 * 2**k) ** 2 for k in range(3)]
    embeddings = sum(2 * n * config.patch_values(k) * config.levels[k].dim for k, n in enumerate(tokens))
    assert embeddings < small.encode["analysis"].flops < 12 * embeddings


def test_every_stage_has_a_floor(result):
    assert all(stage.floor_s > 0 for size in result.sizes for stage in size.encode.values())
    assert result.sizes[0].peak_bytes > 2**20


def test_frames_beyond_a_clip_are_refused():
    with pytest.raises(ValueError, match="frames= is 1 to 32"):
        bench(mptvc.load("tokenizer", device="cpu"), ((64, 64),), frames=(33,))


def test_peers_without_their_library_are_those_that_need_none(monkeypatch, cli):
    monkeypatch.setattr("mptvc.evaluate.bench_peers.find_spec", lambda name: None)
    options = ("--sizes", "64x64", "--frames", "2", "--scenes", "slow", "--weights", "tokenizer", "--json")
    result = cli("bench", "--peers", *options, "--progress", "none")
    assert result.code == 0
    assert "mptvc[peers]" in result.err
    (size,) = json.loads(result.out)["sizes"]
    assert [peer["name"].split()[0] for peer in size["peers"]] == ["x264", "x265"]
    assert "mptvc" not in cli("bench", "--peers", *options, "-q").err


def test_peers_code_the_same_frames():
    pytest.importorskip("diffusers", reason="the extra peers is not installed")
    *_, size = bench(mptvc.load("tokenizer", device="cpu"), ((64, 64),), frames=(9,), peers=True).sizes
    assert [peer.name.split()[0] for peer in size.peers] == ["x264", "x265", "Cosmos"]
    assert all(peer.encode_ns > 0 and peer.decode_ns > 0 for peer in size.peers)


def test_command_prints_every_stage(monkeypatch, capsys):
    sizes = ["--sizes", "32x32, 48x32", "--frames", "1, 2"]
    monkeypatch.setattr("sys.argv", ["mptvc", "bench", *sizes, "--scenes", "still, slow"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.count("total") == 2 * (1 + 4)
    assert text.count(" still ") == 1
    assert "tokens coded" in text
    assert all(word in text for word in ("GFLOP/s", "analysis", "synthesis", "entropy", "peak memory"))
