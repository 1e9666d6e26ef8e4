"""Levels that are coded beside each other, in threads: the same files, frames and errors as one by one."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from patterns import moving
from test_settings import SETTINGS, assert_same, everything

import mptvc
from mptvc.codec import slices
from mptvc.codec.codec import Codec
from mptvc.codec.encoder import make_encoder
from mptvc.codec.loop_coder import LoopCoder
from mptvc.codec.pipeline import Pipeline
from mptvc.codec.rate import Rate
from mptvc.codec.settings import computing
from mptvc.format.header import Layout
from mptvc.format.slices import joined, split
from mptvc.native import calls

pytestmark = pytest.mark.skipif(not calls.is_available(), reason="without kernels nothing overlaps")
FRAMES, SHOTS = moving(21, 48, 64), (17, 4)
RATE = Rate(bpp=(0.5, 1.5, 4.0))


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def long_codec() -> Codec:
    return mptvc.load("codec", device="cpu")


def alone(call: Callable[[], Any]) -> Any:
    """What a call gives with one thread."""
    torch.set_num_threads(1)
    try:
        return call()
    finally:
        torch.set_num_threads(3)


def test_threads_overlap_here(loop_codec: Codec) -> None:
    coder = loop_codec.coder
    assert isinstance(coder, LoopCoder)
    assert coder.overlaps(coder.geometry(64, 48), 2)
    assert not coder.overlaps(coder.geometry(64, 48), 1)
    assert not coder.overlaps(coder.geometry(3840, 2160), 3)
    assert not alone(lambda: coder.overlaps(coder.geometry(64, 48), 3))


@pytest.mark.parametrize("rate", [Rate(), RATE], ids=["quality", "bits"])
def test_files_and_frames_are_the_same(loop_codec: Codec, rate: Rate) -> None:
    data = loop_codec.compress(FRAMES, shots=SHOTS, rate=rate)
    assert data == alone(lambda: loop_codec.compress(FRAMES, shots=SHOTS, rate=rate))
    for levels in (1, 2, 3):
        frames = loop_codec.decompress(data, levels=levels).frames
        assert np.array_equal(frames, alone(lambda n=levels: loop_codec.decompress(data, levels=n).frames))
    tokens = loop_codec.unpack(data)
    assert tokens == alone(lambda: loop_codec.unpack(data))
    assert loop_codec.pack(tokens) == data


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_the_process_change_nothing(setting: str, tmp_path: Path) -> None:
    expected = everything(tmp_path / "plain", "codec")
    with SETTINGS[setting]():
        found = everything(tmp_path / "other", "codec")
    assert_same(found, expected)


def sections_of(codec: Codec) -> tuple[list[bytes], Layout]:
    encoder = make_encoder(codec.coder, Rate())
    for frame in FRAMES[:17]:
        encoder.add(frame)
    (sections,) = encoder.finish()
    video = mptvc.VideoInfo(64, 48, 17, Fraction(25), Fraction(1, 25))
    layout = codec.coder.layout(video, (17,))
    return [section.data for section in sections], layout


def decoded(
    codec: Codec, sections: Sequence[bytes], layout: Layout, *, raises: bool
) -> tuple[list[list[np.ndarray]], list[object]]:
    """Frames of all prefixes of each piece, and what was told of damage after how many pieces."""
    found: list[list[np.ndarray]] = []
    told: list[object] = []

    def damaged(level: int, error: ValueError) -> None:
        told.append((len(found), level))
        if raises:
            raise error

    try:
        for piece in codec.coder.pieces(sections, layout, 0, damaged):
            found.append([piece.frames(n + 1) for n in range(piece.num_levels)])  # noqa: PERF401 as it comes
    except ValueError as error:
        told.append(str(error))
    return found, told


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_damage_is_told_where_it_is(long_codec: Codec, level: int, place: int, raises: bool) -> None:
    """What was decoded ahead of it is not lost, and what follows it is not claimed."""
    sections, layout = sections_of(long_codec)
    packets = split(sections[level], 5)
    packets[place] = type(packets[place])(b"\0" * 9, packets[place].gain, packets[place].kind)
    sections[level] = joined(packets)
    found, told = decoded(long_codec, sections, layout, raises=raises)
    expected, expected_told = alone(lambda: decoded(long_codec, sections, layout, raises=raises))
    assert told == expected_told
    assert told[0] == (place, level)
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_a_reader_may_stop_anywhere(long_codec: Codec) -> None:
    sections, layout = sections_of(long_codec)
    for count in range(3):
        pieces = long_codec.coder.pieces(sections, layout, 0, lambda level, error: None)
        assert len(list(islice(pieces, count))) == count
        pieces.close()


@pytest.mark.parametrize("level", [0, 2])
def test_errors_of_an_encoder_reach_its_caller(
    loop_codec: Codec, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    planned = slices.planned

    def fail(which, *args):
        if which.index == level:
            raise MemoryError("all is full")
        return planned(which, *args)

    monkeypatch.setattr(slices, "planned", fail)
    with pytest.raises(MemoryError, match="all is full"):
        loop_codec.compress(FRAMES)


def test_jobs_pass_both_stages_in_order() -> None:
    done, may_end, pipeline = [], Event(), Pipeline(overlaps=True)
    pipeline.add(lambda: done.append("a1"), lambda: (may_end.wait(), done.append("a2")))
    pipeline.add(lambda: done.append("b1"), lambda: done.append("b2"))
    while len(done) < 2:  # the first stage of b while the second one of a waits
        may_end.wait(0.001)
    assert done == ["a1", "b1"]
    may_end.set()
    pipeline.wait()
    assert done == ["a1", "b1", "a2", "b2"]


def test_a_second_stage_is_not_done_after_a_first_one_that_failed() -> None:
    done, pipeline = [], Pipeline(overlaps=True)
    pipeline.add(lambda: 1 // 0, lambda: done.append(2))
    with pytest.raises(ZeroDivisionError):
        pipeline.wait()
    assert not done


def test_torch_has_one_thread_while_kernels_work() -> None:
    with computing(by_kernels=True, beside=2):
        assert torch.get_num_threads() == 1
        assert calls.workers.threads.count == 1
        with computing(by_kernels=True):
            assert torch.get_num_threads() == 1
            assert calls.workers.threads.count == 3
        assert torch.get_num_threads() == 1
    with computing():
        assert torch.get_num_threads() == 3
