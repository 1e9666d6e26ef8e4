"""One self-contained HTML page that shows what the codec does to a video.

Pictures of a few frames are embedded, so the page opens from disk, without a network. Everything that
moves on it is in ``report.html``; this module gathers the data.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from importlib.resources import files
from itertools import groupby, islice, product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mptvc.codec.codec import Codec
from mptvc.codec.decoder import Decompressor
from mptvc.errors import MptError
from mptvc.evaluate.compare import WHOLE, Comparison, Part
from mptvc.evaluate.pictures import jpeg, png
from mptvc.evaluate.prediction import BLENDS, LevelBits, picture_of
from mptvc.format.bitstream import read_header
from mptvc.format.header import Header
from mptvc.format.limits import DEFAULT_LIMITS, Limits
from mptvc.format.source import open_source
from mptvc.video.orientation import upright, upright_info

#: Source pixels that a page shows at most, over all its frames; each comes seven times, at 3 to 4 bits.
_PAGE_PIXELS = 6_000_000
_MOST_FRAMES = 12
_ERROR_GAIN = 6.0
_LOSSLESS_DB = 100.0
_PLACE_FOR_DATA = "/*DATA*/"


def write_report(
    reference: str | Path,
    file: str | Path,
    out: BinaryIO,
    *,
    codec: Codec,
    comparison: Comparison,
    part: Part = WHOLE,
    limits: Limits = DEFAULT_LIMITS,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the page of one ``.mpt`` file.

    Args:
        reference: The source video.
        file: The ``.mpt`` file.
        out: Binary file.
        codec: Codec with the file's weights.
        comparison: What ``mptvc.evaluate.compare`` measured of the file, and other codecs.
        part: What the file was made of.
        limits: What to accept.
        progress: Called after each clip with its frames that are done and all that are shown.

    Raises:
        MptError: The comparison does not hold the file, or either cannot be read.
    """
    if str(file) not in comparison.files:
        raise MptError(f"{file} was not compared")
    with open_source(file) as (opened, size):
        header = read_header(opened, limits)
        reader = Decompressor(codec.coder_of(header), opened, size, header=header)
        versions = comparison.files[str(file)]
        wanted = _chosen_frames(header, versions[-1].kinds)
        sources = _source_frames(reference, part, wanted)
        shown: list[dict[str, Any]] = []
        spent = [LevelBits() for _ in range(reader.levels)] if versions[-1].kinds else []
        clips = {clip: list(chosen) for clip, chosen in groupby(wanted, header.shots.clip_at)}
        for clip in range(header.shots.num_clips) if spent else clips:
            shown += _clip(reader, clip, {index: sources[index] for index in clips.get(clip, ())}, spent)
            if progress is not None:
                progress(len(shown), len(wanted))
    page = files("mptvc.evaluate").joinpath("report.html").read_text(encoding="utf-8")
    video = upright_info(header.video)
    data = {
        "title": comparison.clip,
        "width": video.width,
        "height": video.height,
        "covered": _covered(header),
        "aspect": float(video.pixel_aspect),
        "rate": float(video.frame_rate),
        "times": [round(float(video.times[i]), 3) for i in range(video.num_frames)]
        + [round(float(video.times.end), 3)],
        "shown": shown,
        "levels": [_version(q) for q in versions],
        "bits": [bits.rows(header, level) for level, bits in enumerate(spent)],
        "blends": [[int(blend), name] for blend, name in BLENDS.items()],
        "curves": {
            name: [[q.bpp, min(q.psnr_rgb, _LOSSLESS_DB)] for q in points]
            for name, points in comparison.peers.items()
        },
        "structure": _structure(header),
    }
    text = json.dumps(data, allow_nan=False).replace("</", "<\\/")
    out.write(page.replace(_PLACE_FOR_DATA, text).encode())


def _chosen_frames(header: Header, kinds: Sequence[str]) -> list[int]:
    """Frames spread over the video, as many as a page should hold, and of every kind if there is room."""
    video = header.video
    count = max(1, min(_MOST_FRAMES, video.num_frames, _PAGE_PIXELS // (video.width * video.height)))
    chosen = [round((i + 0.5) * video.num_frames / count - 0.5) for i in range(count)]
    for kind in sorted(set(kinds)) if count >= len(set(kinds)) else ():
        if kind not in (kinds[index] for index in chosen):
            spare = [i for i in chosen if sum(kinds[i] == kinds[j] for j in chosen) > 1]
            frames = [i for i, other in enumerate(kinds) if other == kind]
            old, new = min(product(spare, frames), key=lambda pair: abs(pair[0] - pair[1]))
            chosen[chosen.index(old)] = new
    return sorted(chosen)


def _source_frames(reference: str | Path, part: Part, wanted: list[int]) -> dict[int, np.ndarray]:
    with part.of(reference) as source:
        frames = enumerate(islice(source.frames(), wanted[-1] + 1))
        return {i: frame.pixels for i, frame in frames if i in wanted}


def _clip(
    reader: Decompressor, clip: int, sources: dict[int, np.ndarray], spent: Sequence[LevelBits]
) -> list[dict[str, Any]]:
    """Pictures of the chosen frames of one clip: source, every level, its error and where its bits went.

    Where the bits of all frames are counted, the whole clip is decoded.
    """
    shown, first, video = [], reader.header.shots.frames(clip).start, reader.header.video
    width = _covered(reader.header)[0]

    def picture(pixels: np.ndarray) -> str:
        return _picture(upright(pixels, video.rotation))

    for piece in reader.pieces(clip):
        chosen = [index for index in sources if first <= index < first + piece.num_frames]
        if chosen:
            decoded = [piece.frames(count) for count in range(1, piece.num_levels + 1)]
        for index in chosen:
            at, source = index - first, sources[index]
            maps = [piece.bits(level, at) for level in range(piece.num_levels)]
            predicted = [picture_of(piece, level, at, width) for level in range(piece.num_levels)]
            shown.append(
                {
                    "index": index,
                    "time": round(float(video.times[index]), 3),
                    "source": picture(source),
                    "levels": [picture(frames[at]) for frames in decoded],
                    "errors": [picture(_error(source, frames[at])) for frames in decoded],
                    "bits": [picture(_heat(m)) for m in maps],
                    "most": [float(m.max()) for m in maps],
                    # Vectors are drawn over pictures as they are stored.
                    "predicted": [one for one in predicted if one is not None and not video.rotation],
                }
            )
        for level, bits in enumerate(spent):
            bits.add(piece, level)
        first += piece.num_frames
        if not spent and first > max(sources):
            break
    return shown


def _covered(header: Header) -> tuple[int, int]:
    """Width and height of what tokens cover, in source pixels: the source and more."""
    rows, columns = header.geometry.grid(0)
    side = header.geometry.patch_size << (header.num_levels - 1)
    return columns * side, rows * side


def _error(source: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """The difference of two frames, made visible."""
    difference: np.ndarray = np.abs(source.astype(np.int16) - decoded) * _ERROR_GAIN
    return difference.clip(0, 255).astype(np.uint8)


def _heat(bits: np.ndarray) -> np.ndarray:
    """Bits as colours from black over red to yellow and white, uint8 ``[h, w, 3]``."""
    share = bits / max(float(bits.max()), 1e-9) * 3
    channels = [(share - k).clip(0, 1) for k in range(3)]
    return (255 * np.stack(channels, -1)).astype(np.uint8)


def _picture(pixels: np.ndarray) -> str:
    """Pixels uint8 ``[H, W, 3]`` as the data URL of a JPEG that looks the same, a PNG where it is tiny."""
    tiny = pixels.shape[0] * pixels.shape[1] < 2**16
    data = b64encode(png(pixels) if tiny else jpeg(pixels)).decode()
    return f"data:image/{'png' if tiny else 'jpeg'};base64,{data}"


def _version(quality: Any) -> dict[str, Any]:
    """A prefix for the page; lossless frames, which have no finite PSNR, as ``_LOSSLESS_DB``."""
    return {
        "name": quality.name,
        "bytes": quality.size_bytes,
        "bpp": quality.bpp,
        "rgb": min(quality.psnr_rgb, _LOSSLESS_DB),
        "y": min(quality.psnr_y, _LOSSLESS_DB),
        "frames": [round(min(value, _LOSSLESS_DB), 2) for value in quality.frames_rgb],
        "kinds": list(quality.kinds),
    }


def _structure(header: Header) -> dict[str, Any]:
    return {
        "header": header.size_bytes,
        "sound": header.side_bytes,
        "sections": [list(header.index.lengths(level)) for level in range(header.num_levels)],
        "clips": [len(header.shots.frames(clip)) for clip in range(header.shots.num_clips)],
        "shots": list(header.shots.lengths),
    }
