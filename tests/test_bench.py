"""The benchmark's arithmetic; its times are nobody's promise."""

import pytest

import mptvc
from mptvc.cli.main import main
from mptvc.evaluate.bench import bench


@pytest.fixture(scope="module")
def result():
    return bench(mptvc.load("tokenizer", device="cpu"), ((64, 64), (128, 128)), frames=(5,))


def test_stages_add_up_to_no_more_than_the_total(result):
    for size in result.sizes:
        for stages in (size.encode, size.decode):
            parts = sum(stage.seconds for name, stage in stages.items() if name != "total")
            assert 0 < parts <= stages["total"].seconds


def test_operations_grow_with_the_picture(result):
    small, large = result.sizes
    for name in ("analysis", "synthesis"):
        assert 3 < large.encode[name].flops / small.encode[name].flops < 5
    assert large.encode["total"].flops == sum(
        stage.flops for name, stage in large.encode.items() if name != "total"
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


def test_peers_without_their_library_name_the_extra(monkeypatch):
    monkeypatch.setattr("mptvc.evaluate.bench_peers.find_spec", lambda name: None)
    with pytest.raises(mptvc.MptError, match=r"mptvc\[peers\]"):
        bench(mptvc.load("tokenizer", device="cpu"), ((64, 64),), frames=(1,), peers=True)


def test_peers_code_the_same_frames():
    pytest.importorskip("diffusers", reason="the extra peers is not installed")
    (size,) = bench(mptvc.load("tokenizer", device="cpu"), ((64, 64),), frames=(9,), peers=True).sizes
    assert [peer.name.split()[0] for peer in size.peers] == ["x264", "x265", "Cosmos"]
    assert all(peer.encode_ns > 0 and peer.decode_ns > 0 for peer in size.peers)


def test_command_prints_every_stage(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["mptvc", "bench", "--sizes", "32x32, 48x32", "--frames", "1, 2"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.count("total") == 2 * 4
    assert all(word in text for word in ("GFLOP/s", "analysis", "synthesis", "entropy", "peak memory"))
