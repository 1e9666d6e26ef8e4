"""Rate and quality side by side: prefixes of a file, other video files, other codecs on the same frames."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np

from mptvc.codec.codec import Codec
from mptvc.codec.decoder import Decompressor
from mptvc.errors import MptError, VideoError
from mptvc.evaluate.metrics import Quality, QualityMeter
from mptvc.evaluate.peers import PEERS, chosen_peers, encode_with
from mptvc.evaluate.prediction import kinds_of
from mptvc.files.folders import VIDEO_SUFFIXES, find_videos
from mptvc.format.bitstream import read_header
from mptvc.format.header import prefix_name
from mptvc.format.limits import DEFAULT_LIMITS, Limits
from mptvc.format.source import open_source
from mptvc.video.raw import RawVideo
from mptvc.video.source import VideoSource

#: Called with units of work done and expected.
Progress = Callable[[int, int], None]
#: A source and the files to compare with it.
Pair = tuple[Path, list[str | Path]]


@dataclass(frozen=True)
class Part:
    """Which part of a source files were made of, and in which size.

    Attributes:
        start: Seconds to skip.
        duration: Seconds from there on; None for all.
        scale: Sides of the pictures by those of the source's, above 0 and at most 1.
    """

    start: float = 0.0
    duration: float | None = None
    scale: float = 1.0

    def of(self, reference: str | Path | RawVideo, *, upright: bool = False) -> VideoSource:
        """The part of a source.

        Raises:
            VideoError: The source cannot be read.
            ValueError: The part or the scale is out of range.
        """
        return VideoSource(
            reference,
            shot_threshold=None,
            start=self.start,
            duration=self.duration,
            force_8bit=True,
            upright=upright,
            scale=self.scale,
        )


WHOLE = Part()


@dataclass(frozen=True)
class Comparison:
    """Versions of one video.

    Attributes:
        clip: Name of the video.
        files: For each compared file its versions: the prefixes of an ``.mpt`` file, or one.
        peers: For each other codec the points of its curve, from fine to coarse.
    """

    clip: str
    files: dict[str, list[Quality]]
    peers: dict[str, list[Quality]]


def compare_file(
    reference: str | Path | RawVideo,
    file: str | Path,
    *,
    codec: Codec,
    part: Part = WHOLE,
    ssim: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress | None = None,
) -> list[Quality]:
    """Compare every complete prefix of an ``.mpt`` file with its source; sound and subtitles do not count.

    Args:
        reference: The source video.
        file: The ``.mpt`` file.
        codec: Codec with the file's weights.
        part: What the file was made of.
        ssim: Measure SSIM and MS-SSIM too, which needs the extra ``eval``.
        limits: What to accept.
        progress: Called after each clip with frames done and expected.

    Raises:
        VideoError: The source cannot be read, or has another size or number of frames.
        FormatError: The file is damaged.
        WeightsError: The file was made with other weights.
    """
    with (
        open_source(file) as (opened, size),
        part.of(reference) as source,
    ):
        header = read_header(opened, limits)
        reader = Decompressor(codec.coder_of(header), opened, size, header=header)
        video = header.video
        meters = [QualityMeter(ssim) for _ in range(reader.levels)]
        kinds: list[list[str]] = [[] for _ in meters]
        frames, done = (frame.pixels for frame in source.frames()), 0
        for clip in range(header.shots.num_clips):
            for piece in reader.pieces(clip):
                for count, meter in enumerate(meters, start=1):
                    decoded = piece.frames(count)
                    if count == 1:
                        wanted = _take(frames, len(decoded), f"{reference} has fewer frames than {file}")
                        _check_size(reference, wanted.shape[1:3], file, (video.height, video.width))
                    meter.add(wanted, decoded)
                    kinds[count - 1] += kinds_of(piece, count - 1)
                done += len(wanted)
                if progress is not None:
                    progress(done, video.num_frames)
        if next(frames, None) is not None:
            raise VideoError(
                f"{reference} has more frames than {file}: start= and duration= say which part it is of"
            )
        return [
            replace(meter.quality(prefix_name(count), header.picture_bytes(count)), kinds=tuple(mine))
            for count, (meter, mine) in enumerate(zip(meters, kinds, strict=True), start=1)
        ]


def compare_video(
    reference: str | Path | RawVideo,
    file: str | Path,
    *,
    part: Part = WHOLE,
    ssim: bool = False,
    progress: Progress | None = None,
) -> Quality:
    """Compare a video file of any format with a part of its source; its rate is the whole file's.

    Raises:
        VideoError: One cannot be read, or they differ in size or number of frames.
    """
    meter = QualityMeter(ssim)
    with (
        part.of(reference, upright=True) as source,
        VideoSource(file, shot_threshold=None, force_8bit=True, upright=True) as other,
    ):
        try:
            for done, (a, b) in enumerate(zip(source.frames(), other.frames(), strict=True), start=1):
                _check_size(reference, a.pixels.shape, file, b.pixels.shape)
                meter.add(a.pixels[None], b.pixels[None])
                if progress is not None:
                    progress(done, max(done, source.info.expected_frames))
        except ValueError as error:
            raise VideoError(f"{reference} and {file} differ in their number of frames") from error
    return meter.quality("file", Path(file).stat().st_size)


def compare_peers(
    reference: str | Path | RawVideo,
    names: Sequence[str],
    *,
    part: Part = WHOLE,
    ssim: bool = False,
    progress: Progress | None = None,
) -> dict[str, list[Quality]]:
    """Code a video with other codecs at all their qualities.

    Args:
        reference: The source video.
        names: Of ``mptvc.evaluate.peers.PEERS``.
        part: What to code of it.
        ssim: Measure SSIM and MS-SSIM too, which needs the extra ``eval``.
        progress: Called after each encode.

    Raises:
        ValueError: A name is unknown.
        VideoError: The source cannot be read, or FFmpeg lacks an encoder.
    """
    peers = [PEERS[name] for name in chosen_peers(names)]
    if not peers:
        return {}
    curves: dict[str, list[Quality]] = {peer.describe(): [] for peer in peers}
    rate, jobs = _frame_rate(reference), [(peer, quality) for peer in peers for quality in peer.qualities]
    for done, (peer, quality) in enumerate(jobs, start=1):
        point = encode_with(peer, quality, lambda: _frames(reference, part), rate, ssim=ssim)
        curves[peer.describe()].append(point)
        if progress is not None:
            progress(done, len(jobs))
    return curves


def at_rate(curve: Sequence[Quality], bpp: float) -> float | None:
    """RGB PSNR of a curve at a rate, linear in the logarithm of the rate; None outside the curve."""
    points = sorted((point.bpp, point.psnr_rgb) for point in curve if np.isfinite(point.psnr_rgb))
    if not points or not points[0][0] <= bpp <= points[-1][0]:
        return None
    rates, psnrs = zip(*points, strict=True)
    return float(np.interp(np.log(bpp), np.log(rates), psnrs))


def bjontegaard(curve: Sequence[Quality], ours: Sequence[Quality]) -> tuple[float | None, float | None]:
    """BD-rate in per cent and BD-PSNR in dB of ``ours`` against a curve, RGB PSNR; needs the extra ``eval``.

    Source: Bjontegaard, "Calculation of average PSNR differences between RD curves", 2001, with
    piecewise cubic interpolation; None where the curves do not overlap.
    """
    import bjontegaard as bd

    points = [_rising(c) for c in (curve, ours)]
    if any(len(rates) < 2 for rates, _ in points):
        return None, None
    options = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about little overlap, which the range of three prefixes implies
        values = [delta(*points[0], *points[1], **options) for delta in (bd.bd_rate, bd.bd_psnr)]
    rate, psnr = (float(value) if np.isfinite(value) else None for value in values)
    return rate, psnr


def _rising(curve: Sequence[Quality]) -> tuple[list[float], list[float]]:
    """Rates and PSNRs of the points that are better than all cheaper ones, up to a lossless one."""
    rates: list[float] = []
    psnrs: list[float] = []
    for point in sorted(curve, key=lambda p: (p.bpp, -p.psnr_rgb)):
        if not np.isfinite(point.psnr_rgb):  # lossless
            break
        if not rates or (point.bpp > rates[-1] and point.psnr_rgb > psnrs[-1]):
            rates.append(point.bpp)
            psnrs.append(point.psnr_rgb)
    return rates, psnrs


def mean_quality(qualities: Sequence[Quality]) -> Quality:
    """The mean of versions of several clips: of their sizes, of their rates, and of their PSNRs in dB."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if len(known) == len(values) else None

    return replace(
        qualities[0],
        size_bytes=round(np.mean([q.size_bytes for q in qualities])),
        bpp=float(np.mean([q.bpp for q in qualities])),
        psnr_rgb=float(np.mean([q.psnr_rgb for q in qualities])),
        psnr_y=float(np.mean([q.psnr_y for q in qualities])),
        frames_rgb=(),
        frames_y=(),
        kinds=(),
        ssim=mean([q.ssim for q in qualities]),
        ms_ssim=mean([q.ms_ssim for q in qualities]),
    )


def pair_files(reference: Path, files: Sequence[str | Path]) -> tuple[list[Pair], tuple[Path, ...]]:
    """Sources with the files to compare: one source, or folders with files of the same names, at any depth.

    An address stays as it is.

    Returns:
        The pairs, and the sources that have no file.

    Raises:
        MptError: A folder is compared with a file, or nothing in two folders belongs together.
    """
    if not reference.is_dir():
        return [(reference, list(files))], ()
    folders = [Path(file) for file in files]
    if not all(folder.is_dir() for folder in folders):
        raise MptError(f"{reference} is a folder; compare it with folders that hold files of the same names")
    pairs: list[Pair] = []
    alone = []
    listed = cache(_by_stem)  # once, however many sources have their versions there
    for source in find_videos([reference]):
        places = [folder / source.relative_to(reference).parent for folder in folders]
        there = [path for place in places for path in _versions(source, listed(place))]
        if there:
            pairs.append((source, [*there]))
        else:
            alone.append(source)
    if not pairs:
        raise MptError(f"no file of {', '.join(map(str, files))} has the name of one in {reference}")
    return pairs, tuple(alone)


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """The files of a folder that may be versions of a video, by their names without ending."""
    found: dict[str, list[Path]] = {}
    for path in folder.glob("*"):
        if path.suffix.lower() in (".mpt", *VIDEO_SUFFIXES) and path.is_file():
            found.setdefault(path.stem, []).append(path)
    return found


def _versions(source: Path, by_stem: dict[str, list[Path]]) -> list[Path]:
    """Files that are named as coded versions of a source, and are not the source."""
    named = [path for stem in {source.stem, source.name} for path in by_stem.get(stem, [])]
    return [path for path in sorted(named) if not path.samefile(source)]


def _check_size(reference: object, mine: tuple[int, ...], file: object, other: tuple[int, ...]) -> None:
    """Refuse pictures ``[H, W, ...]`` of two sizes."""
    if mine[:2] != other[:2]:
        raise VideoError(f"{reference} is {mine[1]}x{mine[0]}, {file} is {other[1]}x{other[0]}")


def _frames(reference: str | Path | RawVideo, part: Part) -> Iterator[np.ndarray]:
    with closing(part.of(reference)) as source:
        for frame in source.frames():
            yield frame.pixels


def _frame_rate(reference: str | Path | RawVideo) -> Fraction:
    with WHOLE.of(reference) as source:
        return source.info.frame_rate.limit_denominator(65535)


def _take(frames: Iterator[np.ndarray], count: int, message: str) -> np.ndarray:
    taken = [frame for _, frame in zip(range(count), frames, strict=False)]
    if len(taken) < count:
        raise VideoError(message)
    return np.stack(taken)
