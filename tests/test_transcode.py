"""Whole files through the library: encode, decode any prefix in any format, compare, digest."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from patterns import LOSSLESS, moving, write_video

from mptvc.codec.codec import Codec
from mptvc.errors import CorruptPacketError, FormatError, MptError, VideoError, WeightsError
from mptvc.evaluate.compare import compare_file
from mptvc.files.digests import symbol_digests
from mptvc.files.transcode import decode_file, encode_file
from mptvc.format.bitstream import make_header, write_header
from mptvc.format.header import Colour, Header, Index, Section, VideoInfo
from mptvc.format.inspect import probe
from mptvc.video.sink import OutputOptions
from mptvc.video.source import VideoSource


@dataclass(frozen=True)
class Sample:
    """A source video, its file, and what that decodes to."""

    frames: np.ndarray
    source: Path
    file: Path
    header: Header
    decoded: np.ndarray

    @property
    def data(self) -> bytes:
        return self.file.read_bytes()


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tensors of these sizes gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def decoded(source: Path | bytes, folder: Path, codec: Codec, **options: Any) -> np.ndarray:
    decode_file(source, folder / "decoded.npy", codec=codec, force=True, **options)
    return np.load(folder / "decoded.npy")


def read(path: Path) -> tuple[VideoInfo, np.ndarray]:
    with VideoSource(path, shot_threshold=None) as source:
        frames = source.frames()
        pixels = [frame.pixels for frame in frames]
    return frames.outcome().video, np.stack(pixels)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_sample(folder: Path, frames: np.ndarray, codec: Codec) -> Sample:
    source = write_video(folder / "source.mkv", frames)
    report = encode_file(source, folder / "file.mpt", codec=codec)
    full = decoded(folder / "file.mpt", folder, codec)
    return Sample(frames, source, folder / "file.mpt", report.header, full)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, codec: Codec) -> Sample:
    """11 frames of 64 x 48 with a cut after the sixth."""
    frames = moving(11, 48, 64)
    frames[6:] = 255 - frames[6:, :, ::-1] // 2
    return make_sample(tmp_path_factory.mktemp("short"), frames, codec)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, codec: Codec) -> Sample:
    """70 frames of 32 x 32 in three clips."""
    sample = make_sample(tmp_path_factory.mktemp("long"), moving(70, 32, 32), codec)
    assert sample.header.shots.num_clips == 3
    return sample


# Encode and decode


def test_encoding_reports_what_it_wrote(short: Sample) -> None:
    assert probe(short.file).header == short.header
    assert short.header.shots.lengths == (6, 5)
    assert short.header.video.num_frames == 11
    assert short.decoded.shape == short.frames.shape
    assert len(short.data) == short.header.prefix_bytes(3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", OutputOptions()),
        ("a.mkv", OutputOptions()),
        ("a.mkv", LOSSLESS),
        ("a.y4m", OutputOptions()),
        ("pictures", OutputOptions()),
        ("a.npy", OutputOptions()),
    ],
)
def test_every_format_shows_the_same_frames(
    short: Sample, codec: Codec, tmp_path: Path, name: str, options: OutputOptions
) -> None:
    report = decode_file(short.file, tmp_path / name, codec=codec, output=options)
    assert (report.video.num_frames, report.levels, report.complete) == (11, 3, True)
    if name == "a.npy":
        frames = np.load(tmp_path / name)
    elif name == "pictures":
        frames = np.concatenate([read(tmp_path / name / picture)[1] for picture in names(tmp_path / name)])
    else:
        frames = read(tmp_path / name)[1]
    exact = options == LOSSLESS or name in ("a.npy", "pictures")
    assert frames.shape == short.frames.shape
    assert np.abs(frames.astype(int) - short.decoded).mean() <= (0 if exact else 3)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_levels_decode_as_the_prefix_of_their_bytes(
    short: Sample, codec: Codec, tmp_path: Path, levels: int
) -> None:
    report = decode_file(short.file, tmp_path / "a.npy", codec=codec, levels=levels)
    prefix = codec.decompress(short.data[: short.header.prefix_bytes(levels)])
    assert (report.levels, report.complete) == (levels, levels == 3)
    assert np.array_equal(np.load(tmp_path / "a.npy"), prefix.frames)


@pytest.mark.parametrize(("levels", "size"), [(1, (24, 32)), (2, (48, 64)), (3, (48, 64))])
def test_a_level_can_be_decoded_at_its_own_size(
    short: Sample, codec: Codec, tmp_path: Path, levels: int, size: tuple[int, int]
) -> None:
    frames = decoded(short.file, tmp_path, codec, levels=levels, source_size=False)
    assert frames.shape == (11, *size, 3)
    video = decode_file(short.file, tmp_path / "a.mp4", codec=codec, levels=levels, source_size=False).video
    assert (video.height, video.width) == size


@pytest.mark.parametrize("levels", [0, 4])
def test_levels_that_a_file_does_not_have_are_a_value_error(
    short: Sample, codec: Codec, tmp_path: Path, levels: int
) -> None:
    with pytest.raises(ValueError, match="levels is 1 to 3"):
        decode_file(short.file, tmp_path / "a.npy", codec=codec, levels=levels)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("start", "duration", "expected"),
    [
        (0.4, None, (10, 70)),
        (0, 0.04, (0, 1)),
        (1.24, 0.12, (31, 34)),
        (2.6, 9, (65, 70)),
        (0.5, 1.5, (13, 50)),
    ],
)
def test_start_and_duration_decode_exactly_those_frames(
    long: Sample,
    codec: Codec,
    tmp_path: Path,
    start: float,
    duration: float | None,
    expected: tuple[int, int],
) -> None:
    frames = decoded(long.file, tmp_path, codec, start=start, duration=duration)
    assert np.array_equal(frames, long.decoded[slice(*expected)])


def test_a_time_range_without_frames_is_a_value_error(long: Sample, codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no frame between 9 s and 10 s; the last is at 2\.760 s"):
        decode_file(long.file, tmp_path / "a.npy", codec=codec, start=9, duration=1)
    assert names(tmp_path) == []


@pytest.mark.parametrize("count", [1, 2, 33])
def test_any_number_of_frames_comes_back(codec: Codec, tmp_path: Path, count: int) -> None:
    source = write_video(tmp_path / "a.mkv", moving(count, 16, 24))
    encode_file(source, tmp_path / "a.mpt", codec=codec)
    assert decoded(tmp_path / "a.mpt", tmp_path, codec).shape == (count, 16, 24, 3)
    assert decode_file(tmp_path / "a.mpt", tmp_path / "b.mp4", codec=codec).video.num_frames == count
    assert len(read(tmp_path / "b.mp4")[1]) == count


def test_encoding_takes_a_part_of_the_source(short: Sample, codec: Codec, tmp_path: Path) -> None:
    header = encode_file(short.source, tmp_path / "a.mpt", codec=codec, start=0.12, duration=0.2).header
    assert header.video.num_frames == 5
    assert header.shots.lengths == (3, 2)
    part = write_video(tmp_path / "part.mkv", short.frames[3:8])
    encode_file(part, tmp_path / "b.mpt", codec=codec)
    assert (tmp_path / "a.mpt").read_bytes() == (tmp_path / "b.mpt").read_bytes()


def test_without_detection_of_cuts_there_is_one_shot(short: Sample, codec: Codec) -> None:
    assert encode_file(short.source, BytesIO(), codec=codec, shot_threshold=None).header.shots.lengths == (
        11,
    )


def test_binary_files_work_as_paths_do(short: Sample, codec: Codec) -> None:
    coded, video = BytesIO(), BytesIO()
    encode_file(BytesIO(short.source.read_bytes()), coded, codec=codec)
    assert coded.getvalue() == short.data
    decode_file(BytesIO(coded.getvalue()), video, codec=codec, output=OutputOptions("mkv", "ffv1"))
    with VideoSource(BytesIO(video.getvalue())) as source:
        frames = np.stack([frame.pixels for frame in source.frames()])
    assert np.array_equal(frames, short.decoded)


def test_times_colour_aspect_and_rotation_travel_through_the_file(codec: Codec, tmp_path: Path) -> None:
    steps = (0, 40, 17, 100, 33)
    source = write_video(
        tmp_path / "a.mkv",
        moving(5, 16, 24),
        OutputOptions(),
        time_base=Fraction(1, 1000),
        time_steps=steps,
        colour=Colour(1, 1, 1, 1),
        pixel_aspect=Fraction(16, 11),
        rotation=90,
    )
    header = encode_file(source, tmp_path / "a.mpt", codec=codec).header
    decode_file(tmp_path / "a.mpt", tmp_path / "b.mkv", codec=codec)
    assert tuple(header.video.time_steps) == steps
    assert header.video == read(source)[0] == read(tmp_path / "b.mkv")[0]


def test_a_part_of_uneven_times_starts_at_zero(codec: Codec, tmp_path: Path) -> None:
    source = write_video(
        tmp_path / "a.mkv", moving(5, 16, 24), time_base=Fraction(1, 1000), time_steps=(0, 40, 20, 100, 33)
    )
    encode_file(source, tmp_path / "a.mpt", codec=codec)
    video = decode_file(tmp_path / "a.mpt", tmp_path / "b.mkv", codec=codec, start=0.05).video
    assert tuple(video.time_steps) == (0, 100, 33)
    assert tuple(read(tmp_path / "b.mkv")[0].time_steps) == (0, 100, 33)


def test_warnings_of_the_source_are_reported(short: Sample, codec: Codec, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", np.tile(short.frames, (4, 1, 1, 1)))
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    report = encode_file(video, tmp_path / "a.mpt", codec=codec)
    assert "the source promises 1.76 s" in report.warnings[0]
    (tmp_path / "a.mpt").unlink()
    with pytest.raises(VideoError, match="strict=True refuses"):
        encode_file(video, tmp_path / "a.mpt", codec=codec, strict=True)
    assert names(tmp_path) == ["a.mkv"]


# Prefixes


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("more", [0, 1, 30])
def test_prefix_decodes_its_complete_levels(
    long: Sample, codec: Codec, tmp_path: Path, levels: int, more: int
) -> None:
    data = long.data[: long.header.prefix_bytes(levels) + more]
    report = decode_file(data, tmp_path / "a.npy", codec=codec)
    assert (report.levels, report.complete, report.video.num_frames) == (levels, False, 70)
    assert np.array_equal(np.load(tmp_path / "a.npy"), codec.decompress(long.data, levels=levels).frames)


def test_a_prefix_of_the_header_is_refused(short: Sample, codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="ends inside its header"):
        decode_file(short.data[:100], tmp_path / "a.npy", codec=codec)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("length", "share"), [(4, 75), (100, 99), (200, 99), (10**6, 99)])
def test_a_level_that_lacks_a_byte_is_refused_by_name(
    short: Sample, codec: Codec, tmp_path: Path, length: int, share: int
) -> None:
    index = Index.of([[Section(length, 0)], [Section(4, 0)], [Section(4, 0)]])
    header = make_header(short.header, index)
    data = write_header(header) + bytes(length - 1)
    with pytest.raises(
        FormatError, match=f"it has no level complete and {share} % of level 0; a prefix with level 0 needs"
    ):
        decode_file(data, tmp_path / "a.npy", codec=codec)


def test_a_level_that_is_not_complete_is_refused_by_name(short: Sample, codec: Codec, tmp_path: Path) -> None:
    header = short.header
    length = header.prefix_bytes(1) - header.size_bytes
    share = 100 * (length - 1) // length
    with pytest.raises(
        FormatError, match=f"it has no level complete and {share} % of level 0; a prefix with level 0 needs"
    ):
        decode_file(short.data[: header.prefix_bytes(1) - 1], tmp_path / "a.npy", codec=codec)
    with pytest.raises(
        FormatError, match="it has level 0 complete and 0 % of level 1; a prefix with levels 0-1 needs"
    ):
        decode_file(short.data[: header.prefix_bytes(1)], tmp_path / "a.npy", codec=codec, levels=2)
    assert names(tmp_path) == []


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("clips", [1, 2])
def test_partial_level_improves_the_clips_that_arrived(
    long: Sample, codec: Codec, tmp_path: Path, level: int, clips: int
) -> None:
    data = long.data[: long.header.offset(level, clips) + 3]
    report = decode_file(data, tmp_path / "a.npy", codec=codec, allow_partial=True)
    frames, border = np.load(tmp_path / "a.npy"), 32 * clips
    better, worse = (codec.decompress(long.data, levels=n).frames for n in (level + 1, level))
    assert np.array_equal(frames[:border], better[:border])
    assert np.array_equal(frames[border:], worse[border:])
    assert (report.levels, report.complete) == (level + 1, False)


def test_partial_first_level_ends_with_the_last_clip_that_arrived(
    long: Sample, codec: Codec, tmp_path: Path
) -> None:
    data = long.data[: long.header.offset(0, 2) + 3]
    report = decode_file(data, tmp_path / "a.npy", codec=codec, allow_partial=True)
    expected = codec.decompress(long.data, levels=1).frames[:64]
    assert np.array_equal(np.load(tmp_path / "a.npy"), expected)
    assert (report.video.num_frames, report.levels, report.complete) == (64, 1, False)
    with pytest.raises(ValueError, match=r"no frame from 2\.6 s on"):
        decode_file(data, tmp_path / "b.npy", codec=codec, allow_partial=True, start=2.6)


def test_partial_level_at_its_own_size_has_one_size_throughout(
    long: Sample, codec: Codec, tmp_path: Path
) -> None:
    data = long.data[: long.header.offset(1, 1)]
    frames = decoded(data, tmp_path, codec, allow_partial=True, source_size=False)
    assert frames.shape == (70, 32, 32, 3)
    coarse = decoded(data, tmp_path, codec, source_size=False)
    assert np.array_equal(frames[32:, ::2, ::2], coarse[32:])


# Damage and refusals


@pytest.mark.parametrize("name", ["a.npy", "a.mp4", "a.y4m", "pictures"])
@pytest.mark.parametrize(("level", "clip"), [(0, 0), (2, 1)])
def test_damaged_byte_is_named_and_leaves_nothing(
    long: Sample, codec: Codec, tmp_path: Path, name: str, level: int, clip: int
) -> None:
    data = bytearray(long.data)
    data[long.header.offset(level, clip) + 5] ^= 1
    with pytest.raises(CorruptPacketError, match=f"level {level}, clip {clip} is damaged") as caught:
        decode_file(bytes(data), tmp_path / name, codec=codec)
    assert caught.value.offset == long.header.offset(level, clip)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("level", "clip"), [(2, 1), (1, 2), (1, 0)])
def test_best_effort_shows_damaged_clips_by_their_coarser_levels(
    long: Sample, codec: Codec, tmp_path: Path, level: int, clip: int
) -> None:
    data = bytearray(long.data)
    data[long.header.offset(level, clip) + 5] ^= 1
    report = decode_file(bytes(data), tmp_path / "a.npy", codec=codec, best_effort=True)
    damage = [(e.level, e.clip) for e in report.damage if isinstance(e, CorruptPacketError)]
    assert damage == [(level, clip)]
    assert not report.complete
    expected, mine = long.decoded.copy(), slice(32 * clip, 32 * clip + 32)
    expected[mine] = codec.decompress(long.data, levels=level).frames[mine]
    assert np.array_equal(np.load(tmp_path / "a.npy"), expected)


@pytest.mark.parametrize("clip", [0, 1, 2])
def test_best_effort_holds_the_last_picture_where_a_clip_is_lost(
    long: Sample, codec: Codec, tmp_path: Path, clip: int
) -> None:
    data = bytearray(long.data)
    data[long.header.offset(0, clip) + 5] ^= 1
    report = decode_file(bytes(data), tmp_path / "a.npy", codec=codec, best_effort=True)
    assert len(report.damage) == 1
    expected = long.decoded.copy()
    expected[32 * clip : 32 * clip + 32] = expected[32 * clip - 1] if clip else 127
    assert np.array_equal(np.load(tmp_path / "a.npy"), expected)


def test_best_effort_reports_nothing_on_a_sound_file(short: Sample, codec: Codec, tmp_path: Path) -> None:
    report = decode_file(short.data, tmp_path / "a.npy", codec=codec, best_effort=True)
    assert (report.damage, report.complete) == ((), True)
    assert np.array_equal(np.load(tmp_path / "a.npy"), short.decoded)


def test_damage_above_the_levels_asked_for_does_not_matter(
    long: Sample, codec: Codec, tmp_path: Path
) -> None:
    data = bytearray(long.data)
    data[-1] ^= 1
    frames = decoded(bytes(data), tmp_path, codec, levels=2)
    assert np.array_equal(frames, codec.decompress(long.data, levels=2).frames)


def test_other_weights_are_refused_before_anything_is_written(
    short: Sample, small_codec: Codec, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="the file needs the weights"):
        decode_file(short.file, tmp_path / "a.mp4", codec=small_codec)
    with pytest.raises(WeightsError):
        symbol_digests(short.file, codec=small_codec)
    with pytest.raises(WeightsError):
        compare_file(short.source, short.file, codec=small_codec)
    assert names(tmp_path) == []


def test_existing_targets_are_kept_without_force(short: Sample, codec: Codec, tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    target.write_text("mine")
    with pytest.raises(MptError, match="exists; force=True replaces it"):
        encode_file(short.source, target, codec=codec)
    with pytest.raises(MptError, match="exists; force=True replaces it"):
        decode_file(short.file, target, codec=codec)
    assert target.read_text() == "mine"
    encode_file(short.source, target, codec=codec, force=True)
    assert target.read_bytes() == short.data
    assert names(tmp_path) == ["a.mp4"]


def test_a_file_is_never_written_over_itself(short: Sample, codec: Codec, tmp_path: Path) -> None:
    video, coded = tmp_path / "a.mkv", tmp_path / "a.mpt"
    video.write_bytes(short.source.read_bytes())
    coded.write_bytes(short.data)
    with pytest.raises(ValueError, match="same file"):
        encode_file(video, video, codec=codec, force=True)
    with pytest.raises(ValueError, match="same file"):
        decode_file(coded, tmp_path / "." / "a.mpt", codec=codec, force=True, output=OutputOptions("mkv"))
    assert coded.read_bytes() == short.data


def test_a_source_that_is_no_video_leaves_nothing(codec: Codec, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no video\n")
    with pytest.raises(VideoError, match=r"a\.txt: cannot be read as video"):
        encode_file(tmp_path / "a.txt", tmp_path / "a.mpt", codec=codec)
    assert names(tmp_path) == ["a.txt"]


# Digests, comparison, progress


def test_digests_are_those_of_the_symbols(short: Sample, codec: Codec) -> None:
    digests = symbol_digests(short.file, codec=codec)
    assert symbol_digests(short.data, codec=codec) == digests
    assert len(set(digests)) == 3
    assert symbol_digests(short.data[: short.header.prefix_bytes(2)], codec=codec) == digests[:2]


def psnr(reference: np.ndarray, other: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.square(reference.astype(float) - other).mean())


def test_comparison_states_rate_and_quality_of_every_prefix(long: Sample, codec: Codec) -> None:
    ladder = compare_file(long.source, long.file, codec=codec)
    assert [quality.name for quality in ladder] == ["level 0", "levels 0-1", "levels 0-2"]
    for levels, quality in enumerate(ladder, start=1):
        assert quality.size_bytes == long.header.prefix_bytes(levels)
        assert quality.bpp == pytest.approx(8 * quality.size_bytes / (70 * 32 * 32))
        frames = codec.decompress(long.data, levels=levels).frames
        assert quality.psnr_rgb == pytest.approx(psnr(long.frames, frames), abs=1e-3)
    assert ladder[0].bpp < ladder[1].bpp < ladder[2].bpp
    assert ladder[0].psnr_rgb < ladder[2].psnr_rgb


def test_comparison_of_a_cut_file_has_its_complete_levels(long: Sample, codec: Codec, tmp_path: Path) -> None:
    (tmp_path / "cut.mpt").write_bytes(long.data[: long.header.prefix_bytes(2) + 9])
    ladder = compare_file(long.source, tmp_path / "cut.mpt", codec=codec)
    assert ladder == compare_file(long.source, long.file, codec=codec)[:2]


def test_comparison_takes_a_source_that_was_rounded_to_8_bits(
    short: Sample, codec: Codec, tmp_path: Path
) -> None:
    deep = write_video(tmp_path / "a.mkv", short.frames, OutputOptions(codec="ffv1", pix_fmt="gbrp10le"))
    encode_file(deep, tmp_path / "a.mpt", codec=codec, force_8bit=True)
    assert len(compare_file(deep, tmp_path / "a.mpt", codec=codec)) == 3


def test_comparison_refuses_another_video(short: Sample, codec: Codec, tmp_path: Path) -> None:
    other = write_video(tmp_path / "size.mkv", short.frames[:, :40])
    with pytest.raises(VideoError, match=r"size\.mkv is 64x40, .*file\.mpt is 64x48"):
        compare_file(other, short.file, codec=codec)
    fewer = write_video(tmp_path / "fewer.mkv", short.frames[:10])
    with pytest.raises(VideoError, match="fewer frames than"):
        compare_file(fewer, short.file, codec=codec)
    more = write_video(tmp_path / "more.mkv", np.concatenate([short.frames, short.frames[-1:]]))
    with pytest.raises(VideoError, match="more frames than"):
        compare_file(more, short.file, codec=codec)


def test_progress_reaches_the_total(long: Sample, codec: Codec, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        calls.append((done, total))

    encode_file(long.source, BytesIO(), codec=codec, start=1, duration=0.4, progress=note)
    assert calls[-1] == (10, 10)
    calls.clear()
    decode_file(long.file, tmp_path / "a.npy", codec=codec, start=1, duration=1, progress=note)
    assert calls == [(7, 25), (25, 25)]
    calls.clear()
    compare_file(long.source, long.file, codec=codec, progress=note)
    assert calls == [(32, 70), (64, 70), (70, 70)]


def test_progress_counts_what_is_coded(small_codec: Codec, tmp_path: Path) -> None:
    """A short clip is computed after its last frame is read: nothing is done before."""
    source = write_video(tmp_path / "in.mkv", moving(40, 32, 32))
    calls: list[tuple[int, int]] = []
    encode_file(source, BytesIO(), codec=small_codec, progress=lambda *at: calls.append(at))
    assert calls == [(0, 40)] * 32 + [(32, 40)] * 9 + [(40, 40)] * 2


def test_progress_with_prediction_counts_slices(loop_codec: Codec, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mkv", moving(9, 16, 16))
    calls: list[tuple[int, int]] = []
    encode_file(source, BytesIO(), codec=loop_codec, progress=lambda *at: calls.append(at))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert {done for done, _ in calls} == {0, 1, 5, 6, 9}


def test_known_shots_are_taken_as_they_are(small_codec: Codec, tmp_path: Path) -> None:
    frames = moving(12, 32, 32)
    frames[7:] = 255 - frames[7:]
    source = write_video(tmp_path / "in.mkv", frames)
    found, given, other = BytesIO(), BytesIO(), BytesIO()
    encode_file(source, found, codec=small_codec)
    encode_file(source, given, codec=small_codec, shots=(7, 5))
    encode_file(source, other, codec=small_codec, shots=(3, 9))
    assert found.getvalue() == given.getvalue()
    assert probe(other.getvalue()).header.shots.lengths == (3, 9)
    with pytest.raises(ValueError, match="do not add up to 12 frames"):
        encode_file(source, BytesIO(), codec=small_codec, shots=(7, 6))


def test_a_clip_is_coded_alike_wherever_it_stands(codec: Codec) -> None:
    """The number of its first shot went into the networks' arithmetic, and rounded otherwise."""
    frames = np.random.default_rng(6).integers(0, 256, (64, 64, 64, 3), dtype=np.uint8)
    before, after = (4,) * 8, (12, 20)
    whole = codec.compress(frames, shots=(*before, *after))
    part = codec.compress(frames[32:], shots=after)
    at, alone = probe(whole).header.index, probe(part).header.index
    assert [at.section(level, 1) for level in range(3)] == [alone.section(level, 0) for level in range(3)]
