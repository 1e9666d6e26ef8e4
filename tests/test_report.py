"""The page: its data against the file's, and what a real browser makes of it."""

import json
import os
import re
import shutil
import subprocess
from base64 import b64decode
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from patterns import describe, moving, write_video
from test_sound import make_source
from torch import Tensor

import mptvc
from mptvc.codec.codec import Codec
from mptvc.codec.patches import PatchCoder
from mptvc.errors import MptError
from mptvc.evaluate.compare import WHOLE, Comparison, compare_file
from mptvc.evaluate.metrics import Quality
from mptvc.evaluate.report import _chosen_frames, _source_frames, write_report
from mptvc.evaluate.sample import SAMPLE_CUT, SAMPLE_SHAPE, sample_frames, write_sample
from mptvc.format.header import Header
from mptvc.video.frames import SourceFrame, SourceFrames
from mptvc.video.sink import OutputOptions, VideoSink
from mptvc.video.source import VideoSource

_BROWSER = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]
_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_sample(folder / "a <b> & c.mkv")
    codec = mptvc.load("tokenizer", device="cpu")
    mptvc.encode_file(folder / "a <b> & c.mkv", folder / "a.mpt", codec=codec)
    source, file = folder / "a <b> & c.mkv", folder / "a.mpt"
    curve = [Quality("crf 1", 1, 0.5, 40.0, 40.0, (), ()), Quality("crf 2", 1, 0.05, 30.0, 30.0, (), ())]
    comparison = Comparison(
        source.name, {str(file): compare_file(source, file, codec=codec)}, {"other </script>": curve}
    )
    with open(folder / "page.html", "wb") as out:
        write_report(source, file, out, codec=codec, comparison=comparison)
        with pytest.raises(MptError, match="was not compared"):
            write_report(source, folder / "b.mpt", out, codec=codec, comparison=comparison)
    return folder / "page.html"


def content(page: str) -> dict:
    found = _DATA.search(page)
    assert found is not None
    return json.loads(found[1])


def test_page_tells_what_the_file_holds(page: Path) -> None:
    data, size = content(page.read_text()), (page.parent / "a.mpt").stat().st_size
    assert [level["name"] for level in data["levels"]] == ["level 0", "levels 0-1", "levels 0-2"]
    assert data["levels"][2]["bytes"] == size
    structure = data["structure"]
    assert structure["header"] + sum(map(sum, structure["sections"])) == size
    assert structure["shots"] == [SAMPLE_CUT, SAMPLE_SHAPE[0] - SAMPLE_CUT]
    assert all(len(level["frames"]) == SAMPLE_SHAPE[0] for level in data["levels"])


def test_page_shows_frames_spread_over_the_video(page: Path) -> None:
    shown = content(page.read_text())["shown"]
    indexes = [frame["index"] for frame in shown]
    assert len(shown) == 12
    assert np.diff(indexes).min() >= 3
    assert all(len(frame[kind]) == 3 for frame in shown for kind in ("levels", "errors", "bits", "most"))


def test_page_loads_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"(?:src|href)=[\"']?(?!\")\S", text)
    assert set(re.findall(r"https?://[^\"'\s]+", text)) == {"http://www.w3.org/2000/svg"}


def test_a_clip_is_decoded_once_for_each_prefix(
    made: Path, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of its frames the page shows."""
    decoded, decode = [], PatchCoder.frames

    def counted(coder: PatchCoder, symbols: list[Tensor], *arguments: Any, **options: Any) -> np.ndarray:
        decoded.append(len(symbols))
        return decode(coder, symbols, *arguments, **options)

    source, file, out = made / "in.mkv", made / "in.mpt", BytesIO()
    comparison = Comparison("in.mkv", {str(file): compare_file(source, file, codec=codec)}, {})
    monkeypatch.setattr(PatchCoder, "frames", counted)
    steps: list[tuple[int, int]] = []
    write_report(
        source, file, out, codec=codec, comparison=comparison, progress=lambda *step: steps.append(step)
    )
    assert decoded == [1, 2, 3]
    assert steps == [(11, 11)]
    assert [frame["index"] for frame in content(out.getvalue().decode())["shown"]] == list(range(11))


def test_source_is_read_up_to_the_last_frame_that_is_shown(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, read_next = [], SourceFrames.__next__

    def counted(frames: SourceFrames) -> SourceFrame:
        read.append(frames)
        return read_next(frames)

    monkeypatch.setattr(SourceFrames, "__next__", counted)
    assert list(_source_frames(made / "long.mkv", WHOLE, [0, 3])) == [0, 3]
    assert len(read) == 4


def drawn_by_browser(page: Path) -> str:
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("MPTVC_REQUIRE_BROWSER"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")
    command = [browser, *_BROWSER, f"--user-data-dir={page.parent / 'profile'}", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_browser_draws_the_page(page: Path) -> None:
    drawn = drawn_by_browser(page)
    assert "<th>bytes</th>" in drawn
    assert "header: " in drawn
    assert "sound" not in re.sub(r"<script.*?</script>", "", drawn, flags=re.DOTALL)
    assert drawn.count("<tr>") == 4
    assert drawn.count("<polyline") == 2 + 3
    assert "other &lt;/script&gt;" in drawn
    assert "a &lt;b&gt; &amp; c.mkv" in drawn
    assert drawn.count("data:image/jpeg") >= 2


def test_page_of_a_file_with_sound_tells_it_apart(codec: Codec, tmp_path: Path) -> None:
    source, file, page = make_source(tmp_path / "a.mkv", frames=4), tmp_path / "a.mpt", tmp_path / "a.html"
    mptvc.encode_file(source, file, codec=codec)
    comparison = Comparison("a.mkv", {str(file): compare_file(source, file, codec=codec)}, {})
    with open(page, "wb") as out:
        write_report(source, file, out, codec=codec, comparison=comparison)
    data = content(page.read_text())
    structure, counted = data["structure"], data["levels"][2]["bytes"]
    assert structure["sound"] > 0
    assert counted == structure["header"] + sum(map(sum, structure["sections"]))
    assert counted + structure["sound"] == file.stat().st_size
    drawn = drawn_by_browser(page)
    assert "<th>bytes without sound</th>" in drawn
    assert f"sound and subtitles: {structure['sound']} bytes" in drawn


@pytest.fixture(scope="module")
def predicted_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a video with prediction, with a cut; its width is no multiple of a block's."""
    folder, codec = tmp_path_factory.mktemp("predicted"), mptvc.load("codec", device="cpu")
    frames = sample_frames()[SAMPLE_CUT - 9 : SAMPLE_CUT + 5, 96:192, 64:184]
    source, file = write_video(folder / "a.mkv", frames), folder / "a.mpt"
    mptvc.encode_file(source, file, codec=codec)
    comparison = Comparison("a", {str(file): compare_file(source, file, codec=codec)}, {})
    with open(folder / "page.html", "wb") as out:
        write_report(source, file, out, codec=codec, comparison=comparison)
    return folder / "page.html"


def test_page_tells_how_frames_are_predicted(predicted_page: Path) -> None:
    data = content(predicted_page.read_text())
    levels = data["levels"]
    assert data["covered"] == [128, 96]
    assert [i for i, kind in enumerate(levels[2]["kinds"]) if kind == "opening key"] == [0, 9]
    for frame in data["shown"]:
        for level, plan in enumerate(frame["predicted"]):
            columns, tokens = ((4, 4), (8, 8), (8, 16))[level]
            assert plan["kind"] == levels[level]["kinds"][frame["index"]]
            assert (plan["columns"], plan["tokens"]) == (columns, tokens)
            assert plan["unit"] == (0.5 if level == 0 else 0.25)
            assert len(plan["blends"]) == len(plan["vectors"]) == columns * columns * 3 // 4
            assert len(plan["coded"]) == tokens * tokens * 3 // 4
            alone = [blend == "7" for blend in plan["blends"]]
            assert [vector is None for vector in plan["vectors"]] == alone
            assert all(alone) == (plan["kind"] == "opening key")
    fields = [v for frame in data["shown"] for v in frame["predicted"][2]["vectors"] if v]
    assert max(np.hypot(*vector) for vector in fields) > 1


def test_shares_of_bits_are_the_bytes_of_a_level(predicted_page: Path) -> None:
    data = content(predicted_page.read_text())
    for level, rows in enumerate(data["bits"]):
        parts = {row["part"]: row for row in rows}
        assert sum(row["bits"] for row in rows) == pytest.approx(
            8 * sum(data["structure"]["sections"][level])
        )
        assert parts["opening key"]["frames"] == 2
        assert sum(row.get("frames", 0) for row in rows) == 14
        assert all(row["bits"] > 0 for row in rows)
        assert all(0 <= row["coded"] <= 1 for row in rows if "coded" in row)
        slices = 3 + 2
        assert parts["around packets"]["bits"] < 8 * 18 * slices


def test_browser_draws_how_bits_are_shared(predicted_page: Path) -> None:
    drawn = drawn_by_browser(predicted_page)
    rows = content(predicted_page.read_text())["bits"]
    assert drawn.count("<tr>") == 4 + 1 + sum(map(len, rows))
    assert "how blocks are predicted: " in drawn
    assert not re.search(r'id="motion"[^>]*hidden', drawn)


def test_browser_shows_nothing_of_prediction_where_there_is_none(page: Path) -> None:
    drawn = drawn_by_browser(page)
    assert re.search(r'id="motion"[^>]*hidden', drawn)
    assert re.search(r'<section class="predicted"[^>]*hidden', drawn)


@pytest.mark.parametrize("count", [1, 14, 48, 97])
def test_frames_of_every_kind_are_shown_where_there_is_room(header: Header, count: int) -> None:
    """Every fourth frame is a key, as every fourth frame of 48 is chosen."""
    kinds = ["opening key"] + ["key" if i % 4 == 0 else "between" for i in range(1, count)]
    video = replace(header.video, num_frames=count)
    for given in (kinds, kinds[:1] + ["between" if kind == "key" else "key" for kind in kinds[1:]]):
        chosen = _chosen_frames(replace(header, video=video), given)
        assert chosen == sorted(set(chosen))
        assert len(chosen) == min(count, 12)
        assert {given[index] for index in chosen} == set(given)
        assert len(_chosen_frames(replace(header, video=replace(video, width=4000, height=2000)), given)) == 1


def test_page_shows_pictures_as_they_are_to_be_shown_at_their_times(tmp_path: Path) -> None:
    source, codec = tmp_path / "in.mkv", mptvc.load("tokenizer", device="cpu")
    frames = moving(5, 32, 64)
    base, steps = Fraction(1, 1000), (0, 100, 200, 300, 100)
    video = describe(frames, rotation=90, pixel_aspect=Fraction(4, 3)).with_times(base, steps, 2000)
    with VideoSink(source, video, OutputOptions(codec="ffv1")) as sink:
        sink.write(frames)
    mptvc.encode_file(source, tmp_path / "a.mpt", codec=codec)
    qualities = {str(tmp_path / "a.mpt"): compare_file(source, tmp_path / "a.mpt", codec=codec)}
    with open(tmp_path / "page.html", "wb") as out:
        write_report(source, tmp_path / "a.mpt", out, codec=codec, comparison=Comparison("in", qualities, {}))
    data = content((tmp_path / "page.html").read_text())
    assert (data["width"], data["height"]) == (32, 64)
    assert data["times"][:5] == [0, 0.1, 0.3, 0.6, 0.7]
    assert [shown["time"] for shown in data["shown"]] == data["times"][:5]
    with VideoSource(source, shot_threshold=None) as read:
        assert data["aspect"] == float(1 / read.info.pixel_aspect)
    picture = b64decode(data["shown"][0]["source"].partition(",")[2])
    assert av.open(BytesIO(picture)).streams.video[0].width == 32
