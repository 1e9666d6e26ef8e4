"""Versions of a video side by side: other files, other codecs, folders, deltas between curves."""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from patterns import write_video

from mptvc.cli.comparison import mean_of
from mptvc.cli.main import main
from mptvc.errors import MptError, VideoError
from mptvc.evaluate.compare import (
    Comparison,
    at_rate,
    bjontegaard,
    compare_peers,
    compare_video,
    mean_quality,
    pair_files,
)
from mptvc.evaluate.metrics import Quality
from mptvc.evaluate.peers import PEERS, chosen_peers, decode_packets, encode_packets, encode_with
from mptvc.evaluate.plots import _short
from mptvc.evaluate.sample import sample_frames, write_sample
from mptvc.video.scaling import scaled
from mptvc.video.source import VideoSource


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "clip.mkv"
    write_sample(path)
    return path


@pytest.fixture(scope="module")
def frames(sample: Path) -> np.ndarray:
    with VideoSource(sample, shot_threshold=None) as source:
        return np.stack([frame.pixels for frame in source.frames()])[:9, :97, :131]


def curve(*points: tuple[float, float]) -> list[Quality]:
    return [Quality(str(bpp), 1, bpp, psnr, psnr, (), ()) for bpp, psnr in points]


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_codes_odd_sizes_and_trades_rate_for_quality(name: str, frames: np.ndarray) -> None:
    peer = PEERS[name]
    fine, coarse = (
        encode_with(peer, quality, lambda: frames, Fraction(30))
        for quality in (peer.qualities[1], peer.qualities[-2])
    )
    assert len(fine.frames_rgb) == 9
    assert fine.bpp > 1.5 * coarse.bpp
    assert fine.psnr_y > coarse.psnr_y + 3
    assert fine.psnr_y > 30


@pytest.mark.parametrize("name", PEERS)
def test_no_peer_loses_quality_to_the_conversion_of_colours(name: str) -> None:
    """Of plain colours, which any encoder keeps, rounding alone is lost, and to both sides."""
    colours = np.random.default_rng(0).integers(0, 256, (24, 3), dtype=np.uint8)
    errors = []
    for colour in colours:
        plain = np.broadcast_to(colour, (2, 64, 64, 3))
        decoded = decode_packets(PEERS[name], *encode_packets(PEERS[name], 1, plain, Fraction(25)))
        errors.append(np.stack(list(decoded)).astype(int) - plain)
    assert np.abs(errors).max() <= 1
    assert abs(np.mean(errors)) < 0.2


def test_a_copy_of_a_video_has_no_error(sample: Path) -> None:
    quality = compare_video(sample, sample)
    assert quality.psnr_rgb == math.inf
    assert quality.size_bytes == sample.stat().st_size


def test_videos_of_different_length_are_refused(sample: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "short.mkv", sample_frames()[:5])
    with pytest.raises(VideoError, match="differ in their number of frames"):
        compare_video(sample, tmp_path / "short.mkv")


def test_unknown_peer_is_named(sample: Path) -> None:
    with pytest.raises(ValueError, match="h267 is not one of x264, x265"):
        compare_peers(sample, ["h267"])


def test_peers_are_named_with_space_and_run_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The source is read for its rate once, and for each quality once to encode and once to compare."""
    assert chosen_peers([" x265", "x264 ", "x265"]) == ("x265", "x264")
    write_video(tmp_path / "a.mkv", sample_frames()[:2])
    opened: list[object] = []
    av_open = av.open

    def counted(file: object, *arguments: object, **options: object) -> object:
        opened.append(file)
        return av_open(file, *arguments, **options)

    monkeypatch.setattr(av, "open", counted)
    (curve,) = compare_peers(tmp_path / "a.mkv", ["x264 ", "x264"]).values()
    assert [q.name for q in curve] == [f"crf {quality}" for quality in PEERS["x264"].qualities]
    assert len(opened) == 1 + 2 * len(curve)


def test_psnr_at_a_rate_is_linear_in_the_logarithm() -> None:
    points = curve((0.4, 36.0), (0.1, 30.0))
    assert at_rate(points, 0.2) == pytest.approx(33.0)
    assert at_rate(points, 0.05) is None
    assert at_rate([], 0.05) is None


def test_half_the_rate_is_minus_fifty_per_cent() -> None:
    other = curve((0.1, 30.0), (0.2, 32.5), (0.4, 35.0), (0.8, 38.0))
    ours = curve((0.05, 30.0), (0.1, 32.5), (0.2, 35.0))
    rate, psnr = bjontegaard(other, ours)
    assert rate == pytest.approx(-50, abs=0.5)
    assert psnr is not None
    assert psnr > 2
    assert bjontegaard(other, curve((0.001, 10.0), (0.002, 11.0), (0.003, 12.0))) == (None, None)


def test_curves_with_equal_points_have_deltas() -> None:
    """An encoder may give the same packets at its two coarsest qualities."""
    base = curve((0.1, 30.0), (0.1, 30.0), (0.2, 33.0), (0.4, 36.0), (0.8, 39.0))
    rate, psnr = bjontegaard(base, curve((0.2, 30.0), (0.4, 33.0), (0.8, 36.0)))
    assert rate == pytest.approx(100, abs=1)
    assert psnr == pytest.approx(-3, abs=0.1)
    assert bjontegaard(base, curve((0.2, 30.0), (0.2, 30.0))) == (None, None)


def test_means_are_of_files_that_belong_together() -> None:
    """The first clip has no file in the first folder."""
    results = [
        Comparison("a.mkv", {"two/a.mpt": curve((9.0, 30.0))}, {}),
        Comparison("in/b.mkv", {"one/in/b.mpt": curve((1.0, 30.0)), "two/in/b.mpt": curve((3.0, 30.0))}, {}),
    ]
    means = {name: version.bpp for name, (version,) in mean_of(results).files.items()}
    assert means == {"two/*.mpt, 2 of 2 clips": 6.0, "one/*.mpt, 1 of 2 clips": 1.0}


def test_mean_is_of_rates_and_of_decibels() -> None:
    mean = mean_quality(curve((0.1, 30.0), (0.3, 40.0)))
    assert mean.bpp == pytest.approx(0.2)
    assert mean.psnr_rgb == pytest.approx(35.0)
    assert mean.ssim is None


def test_folders_are_paired_by_name(tmp_path: Path) -> None:
    sources = ("src/a.mp4", "src/b.mp4", "src/c.mp4", "src/in/d.mp4", "src/in/d.mkv")
    for name in (*sources, "one/a.mpt", "one/b.mpt", "two/b.mkv", "one/in/d.mp4.mpt", "one/in/d.mkv.mpt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    pairs, alone = pair_files(tmp_path / "src", [tmp_path / "one", tmp_path / "two"])
    names = [(source.name, [file.name for file in found]) for source, found in pairs]
    assert names == [
        ("a.mp4", ["a.mpt"]),
        ("b.mp4", ["b.mpt", "b.mkv"]),
        ("d.mkv", ["d.mkv.mpt"]),
        ("d.mp4", ["d.mp4.mpt"]),
    ]
    assert [source.name for source in alone] == ["c.mp4"]
    (tmp_path / "src" / "a.mpt").touch()
    (tmp_path / "src" / "a.safetensors").touch()
    beside, _ = pair_files(tmp_path / "src", [tmp_path / "src"])
    assert beside[0] == (tmp_path / "src" / "a.mp4", [tmp_path / "src" / "a.mpt"])
    with pytest.raises(MptError, match="is a folder"):
        pair_files(tmp_path / "src", [tmp_path / "one" / "a.mpt"])
    with pytest.raises(MptError, match="no file of"):
        pair_files(tmp_path / "two", [tmp_path / "src" / "..", tmp_path])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command line in a wide terminal and returns what it prints."""

    def command(*arguments: object) -> str:
        monkeypatch.setenv("COLUMNS", "250")
        monkeypatch.setattr("sys.argv", ["mptvc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
        return capsys.readouterr().out

    return command


def test_command_writes_table_plot_and_deltas(tmp_path: Path, run: Callable[..., str]) -> None:
    sample = write_video(tmp_path / "small.mkv", sample_frames()[:8, 96:192, 64:192])
    sources, files = tmp_path / "src", tmp_path / "out"
    sources.mkdir()
    files.mkdir()
    for name in ("a", "b"):
        (sources / f"{name}.mkv").write_bytes(sample.read_bytes())
        run("encode", sources / f"{name}.mkv", files / f"{name}.mpt", "--weights", "tokenizer", "-q")
    text = run("compare", sources, files, "--against", " x264", "--ssim", "-q",
               "--csv", tmp_path / "t.csv", "--plot", tmp_path / "p.png")  # fmt: skip
    assert "mean of 2 clips" in text
    assert "BD-PSNR" in text
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert len(rows) == 3 * (3 + len(PEERS["x264"].qualities))
    assert {row["clip"] for row in rows} == {"a.mkv", "b.mkv", "mean of 2 clips"}
    ours = [row for row in rows if row["version"].startswith("level")]
    assert all(0 < float(row["ssim"]) <= 1 for row in ours)
    clips = json.loads(run("compare", sources, files, "--json", "-q"))
    assert [clip["clip"] for clip in clips] == ["a.mkv", "b.mkv", "mean of 2 clips"]
    ((mean,), (first,)) = (list(clip["files"].values()) for clip in (clips[2], clips[0]))
    assert [q["psnr_rgb"] for q in mean] == pytest.approx([q["psnr_rgb"] for q in first])
    (result,) = json.loads(run("compare", sample, files / "a.mpt", "--json"))
    assert [q["name"] for q in next(iter(result["files"].values()))] == [
        "level 0",
        "levels 0-1",
        "levels 0-2",
    ]


def test_what_has_no_file_is_encoded_in_the_size_that_is_asked_for(
    tmp_path: Path, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder, each video and the mean; as if smaller videos were encoded and compared."""
    sources, smaller, spare = (tmp_path / name for name in ("src", "smaller", "spare"))
    for folder in (sources, smaller, spare):
        folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spare))
    options = ("--bpp", "0.4,0.9,2.5", "--weights", "tokenizer")
    for index, name in enumerate("ab"):
        frames = sample_frames()[4 * index : 4 * index + 4, 96:143, 64:126]
        write_video(sources / f"{name}.mkv", frames)
        write_video(smaller / f"{name}.mkv", np.stack([scaled(frame, 0.8) for frame in frames]))
        run("encode", smaller / f"{name}.mkv", smaller / f"{name}.mpt", *options, "-q")
    scale = ("--scale", 0.8, *options, "--csv", tmp_path / "t.csv")
    made = json.loads(run("compare", sources, *scale, "--against", "x264", "--ssim", "--json"))
    there = json.loads(run("compare", smaller, smaller, "--against", "x264", "--ssim", "--json"))
    assert list(made[0]["files"]) == ["mptvc (scale 0.8, bpp 0.4,0.9,2.5, weights tokenizer)"]
    assert [clip["clip"] for clip in made] == ["a.mkv", "b.mkv", "mean of 2 clips"]
    for mine, other in zip(made, there, strict=True):
        assert mine["peers"] == other["peers"]
        assert [*mine["files"].values()] == [*other["files"].values()]
    for version in made[1]["files"].popitem()[1]:
        assert version["bpp"] == 8 * version["size_bytes"] / (4 * 38 * 50)
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + 3 * (3 + len(PEERS["x264"].qualities))
    assert not list(spare.iterdir())


def test_plots_name_files_without_folders_and_what_was_made_without_settings() -> None:
    assert _short("in/clip (1).mpt") == "clip (1).mpt"
    assert _short("mptvc (scale 0.8, bpp 0.1,0.2,0.3)") == "mptvc"


def test_what_has_no_file_is_encoded_as_it_is(tmp_path: Path, run: Callable[..., str]) -> None:
    source = write_video(tmp_path / "a.mkv", sample_frames()[:4, :48, :64])
    run("encode", source, tmp_path / "a.mpt", "-q")
    ((there,), (made,)) = (
        json.loads(run("compare", source, *files, "--json", "--html", tmp_path / f"{len(files)}.html"))
        for files in ((tmp_path / "a.mpt",), ())
    )
    assert made["files"] == {"mptvc": there["files"][str(tmp_path / "a.mpt")]}
    assert (tmp_path / "0.html").read_bytes() == (tmp_path / "1.html").read_bytes()


@pytest.mark.parametrize(
    ("options", "module"),
    [
        (["--against", "x264"], "bjontegaard"),
        (["--ssim"], "pytorch_msssim"),
        (["--plot", "p.png"], "matplotlib"),
    ],
)
def test_missing_extra_is_named_before_the_work(
    options: list[str],
    module: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("sys.argv", ["mptvc", "compare", "no.mp4", "no.mpt", *options])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert f"this needs {module}: pip install 'mptvc[eval]'" in capsys.readouterr().err


def test_a_folder_is_listed_once_for_all_of_its_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once a video, which takes hours for a folder of many."""
    for folder, ending in (("in", ".mp4"), ("out", ".mpt")):
        (tmp_path / folder).mkdir()
        for index in range(50):
            (tmp_path / folder / f"{index}{ending}").touch()
    listed, glob = [], Path.glob

    def counted(path: Path, pattern: str) -> Iterator[Path]:
        listed.append(path)
        return glob(path, pattern)

    monkeypatch.setattr(Path, "glob", counted)
    pairs, alone = pair_files(tmp_path / "in", [tmp_path / "out"])
    assert [[path.name for path in found] for _, found in pairs] == [[f"{s.stem}.mpt"] for s, _ in pairs]
    assert (len(pairs), alone) == (50, ())
    assert sorted(path.name for path in listed) == ["in", "out"]
