"""Frames in a smaller size: what becomes of the pictures, and of a source that is read or coded that way."""

from io import BytesIO
from math import nan
from pathlib import Path

import numpy as np
import pytest
import torch
from patterns import moving, write_video
from torch.nn.functional import interpolate

import mptvc
from mptvc.codec.codec import Codec
from mptvc.video.scaling import scaled, scaled_size
from mptvc.video.source import VideoSource


def test_sizes_are_rounded_and_never_nothing() -> None:
    assert scaled_size(480, 854, 0.8) == (384, 683)
    assert scaled_size(3, 99, 0.5) == (2, 50)
    assert scaled_size(1, 7, 0.01) == (1, 1)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (1, 40), (48, 63)], ids=str)
def test_plain_colours_stay_what_they_are(size: tuple[int, int]) -> None:
    for scale in (0.3, 0.5, 0.97):
        smaller = scaled(np.full((*size, 3), (0, 100, 255), np.uint8), scale)
        assert smaller.shape == (*scaled_size(*size, scale), 3)
        assert np.unique(smaller.reshape(-1, 3), axis=0).tolist() == [[0, 100, 255]]


def test_its_own_size_is_the_picture_itself() -> None:
    picture = moving(1)[0]
    assert scaled(picture, 1.0) is picture


def test_what_is_finer_than_the_new_pixels_is_gone() -> None:
    rows, columns = np.mgrid[:48, :64]
    board = np.repeat((255 * ((rows + columns) % 2)).astype(np.uint8)[..., None], 3, 2)
    assert np.abs(scaled(board, 0.5)[2:-2, 2:-2].astype(int) - 127).max() <= 2


@pytest.mark.parametrize("scale", [0.37, 0.5, 0.8])
def test_pictures_are_those_of_another_bicubic_filter(scale: float) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (49, 66, 3), dtype=np.uint8)
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    other = interpolate(x, scaled_size(49, 66, scale), mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    apart = scaled(picture, scale)[1:-1, 1:-1] - other.clamp(0, 255).numpy()[1:-1, 1:-1]
    assert np.abs(apart).mean() < 2  # of noise, with slightly other weights
    assert abs(apart.mean()) < 0.1


def test_a_source_gives_frames_and_facts_of_the_smaller_size(tmp_path: Path) -> None:
    frames = moving(3, 47, 62)
    write_video(tmp_path / "a.mkv", frames)
    with VideoSource(tmp_path / "a.mkv", scale=0.6) as source:
        read = source.frames()
        assert all(np.array_equal(f.pixels, scaled(g, 0.6)) for f, g in zip(read, frames, strict=True))
        assert (read.outcome().video.width, read.outcome().video.height) == (37, 28)


def test_turned_pictures_are_turned_in_the_smaller_size(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving(2, 48, 64), mptvc.OutputOptions(), rotation=90)
    with VideoSource(tmp_path / "a.mp4", scale=0.5, upright=True) as source:
        read = source.frames()
        assert [frame.pixels.shape for frame in read] == [(32, 24, 3)] * 2
        assert (read.outcome().video.width, read.outcome().video.height) == (24, 32)


def test_what_is_coded_is_what_is_coded_of_smaller_frames(small_codec: Codec, tmp_path: Path) -> None:
    frames = moving(5, 47, 62)
    write_video(tmp_path / "a.mkv", frames)
    write_video(tmp_path / "b.mkv", np.stack([scaled(frame, 0.6) for frame in frames]))
    of_large, of_small = BytesIO(), BytesIO()
    mptvc.encode_file(tmp_path / "a.mkv", of_large, codec=small_codec, scale=0.6)
    mptvc.encode_file(tmp_path / "b.mkv", of_small, codec=small_codec)
    assert of_large.getvalue() == of_small.getvalue()


@pytest.mark.parametrize("scale", [0, -0.5, 1.001, nan])
def test_other_scales_are_refused(small_codec: Codec, tmp_path: Path, scale: float) -> None:
    write_video(tmp_path / "a.mkv", moving(1))
    with pytest.raises(ValueError, match="scale= is above 0 and at most 1, found"):
        mptvc.encode_file(tmp_path / "a.mkv", tmp_path / "a.mpt", codec=small_codec, scale=scale)
    assert not (tmp_path / "a.mpt").exists()
