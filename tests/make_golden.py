"""Writes ``tests/golden``: small files of the current format, and what they must decode to for ever.

Run by hand when the format has something new, never to make a failing test pass: files that were published
stay as they are. ``python tests/make_golden.py`` adds what is missing and replaces nothing. Those of version
2 are of version 1, which was not published, but for the number of the version and the header's checksum.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from patterns import waves
from small_models import stirred

import mptvc
from mptvc.codec.codec import Codec
from mptvc.codec.encoder import Compressor
from mptvc.codec.stored import write_weights
from mptvc.files.digests import symbol_digests
from mptvc.files.transcode import encode_file
from mptvc.format.bitstream import VERSION, read_header
from mptvc.format.header import Colour, Header, VideoInfo
from mptvc.format.sections import open_side
from mptvc.model.config import LevelConfig, ModelConfig
from mptvc.model.integer_network import ALPHABET, logistic_frequencies
from mptvc.model.model import Model

GOLDEN = Path(__file__).parent / "golden"
WEIGHTS, FACTS = GOLDEN / "weights", GOLDEN / "golden.json"
SCALES = 4
#: Stored pixels of a prefix at most, about.
PIXELS = 1000


def make_model() -> Model:
    """A model with random networks that all do something, small enough to be kept in the repository."""
    levels = tuple(
        LevelConfig(values=(63,) * 3 + (15,) * 5, dim=8, blocks=2, groups=(3, 5), hidden=8) for _ in range(3)
    )
    config = ModelConfig(
        levels=levels, patch_size=4, clip_frames=8, heads=1, head_dim=8, hyper_channels=4, scales=SCALES
    )
    model = stirred(config, seed=6)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".synthesis.head." in name:  # so that few pixels are black or white
                parameter.mul_(0.06)
    wide = logistic_frequencies(48).view(48, -1, ALPHABET)[:: 48 // SCALES]
    for level in range(len(levels)):
        entropy_model = model.level(level).entropy_model
        entropy_model.set_frequencies(wide.reshape(-1, ALPHABET).contiguous())
        with torch.no_grad():
            entropy_model.hyper_scale.fill_(2)
            for mixer in entropy_model.mixers:
                mixer.outer.bias[: mixer.channels].mul_(0.5)
    return model


def shots_of_waves(count: int, height: int, width: int, cuts: tuple[int, ...] = ()) -> np.ndarray:
    """Moving waves, inverted at every cut."""
    video = waves(count, height, width, across=3, down=5, speed=2, amplitude=60).astype(np.uint8)
    for cut in cuts:
        video[cut:] = 255 - video[cut:]
    return video


def pixel(codec: Codec) -> bytes:
    return codec.compress(np.full((1, 1, 1, 3), (200, 30, 90), np.uint8))


def clip(codec: Codec) -> bytes:
    return codec.compress(shots_of_waves(8, 24, 40))


def cuts(codec: Codec) -> bytes:
    """Four clips; the cuts are inside clips and on a border of two."""
    shots = (3, 9, 1, 8)
    return codec.compress(shots_of_waves(21, 30, 22, tuple(np.cumsum(shots)[:-1])), shots=shots)


def tiles(codec: Codec) -> bytes:
    """Two rows and three columns of tiles in the last level."""
    tiled = mptvc.load(WEIGHTS, device="cpu", dtype="float32", tile=(64, 64))
    return tiled.compress(shots_of_waves(4, 68, 132), frame_rate=Fraction(24000, 1001))


def tags(codec: Codec) -> bytes:
    """An odd size, and all that a header says of a video."""
    video = VideoInfo(
        *(27, 35, 7, Fraction(30000, 1001)),
        time_base=Fraction(1, 90000),
        time_steps=(0, 3003, 3003, 6006, 1, 2999, 3003),
        pixel_aspect=Fraction(16, 11),
        rotation=270,
        colour=Colour(primaries=9, transfer=16, matrix=9, range=2),
    )
    out = BytesIO()
    with Compressor(codec.coder) as compressor:
        for index, frame in enumerate(shots_of_waves(7, 35, 27, (5,))):
            compressor.add(frame, is_cut=index == 5)
        compressor.finish(video, out)
    return out.getvalue()


def sound(codec: Codec) -> bytes:
    """A side section in front of level 0."""
    source, out = BytesIO(), BytesIO()
    with av.open(source, "w", format="matroska") as container:
        video = container.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 16, 16, "bgr0"
        audio = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for index, pixels in enumerate(shots_of_waves(5, 16, 16)):
            frame = VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = (8000 * np.sin(np.arange(1600) / 9)).astype(np.int16)[None]
        heard = AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        heard.sample_rate, heard.pts = 8000, 0
        container.mux(audio.encode(heard))
        container.mux(audio.encode(None))
    source.seek(0)
    encode_file(source, out, codec=codec)
    return out.getvalue()


def gains(codec: Codec) -> bytes:
    """Two clips whose sections are quantized more or less finely.

    The file of version 2 is older than this rate: its two coarser levels had limits, the finest a quality.
    """
    return codec.compress(shots_of_waves(11, 24, 40), rate=mptvc.Rate(bpp=(0.3, 0.555, 1.67)))


FILES: dict[str, Callable[[Codec], bytes]] = {
    "pixel": pixel,
    "clip": clip,
    "cuts": cuts,
    "tiles": tiles,
    "tags": tags,
    "sound": sound,
    "gains": gains,
}


def header_facts(header: Header) -> dict[str, Any]:
    """Everything that a header says, as JSON holds it."""
    video = header.video
    return {
        "size": [video.width, video.height],
        "frames": video.num_frames,
        "frame_rate": str(video.frame_rate),
        "time_base": str(video.time_base),
        "time_steps": list(video.time_steps),
        "pixel_aspect": str(video.pixel_aspect),
        "rotation": video.rotation,
        "colour": [video.colour.primaries, video.colour.transfer, video.colour.matrix, video.colour.range],
        "shots": list(header.shots.lengths),
        "slice_shots": [list(header.shots.clip(index).shots) for index in range(header.shots.num_clips)],
        "patch": [header.shots.patch_frames, header.geometry.patch_size],
        "clip_frames": header.shots.clip_frames,
        "tiles": [[grid.rows, grid.columns, grid.margin] for grid in header.geometry.tiles],
        "entropy_id": header.entropy_id.hex(),
        "weights_id": header.weights_id.hex(),
        "sections": [
            [
                [s.length, s.crc]
                for s in (header.index.section(k, clip) for clip in range(header.shots.num_clips))
            ]
            for k in range(header.num_levels)
        ],
        "side": header.side and [header.side.section.length, header.side.section.crc, header.side.lead_s],
        **({"gains": [list(level) for level in header.gains]} if header.gains else {}),
        "prefix_bytes": [header.prefix_bytes(levels + 1) for levels in range(header.num_levels)],
    }


def sampled(frames: np.ndarray, step: int) -> np.ndarray:
    """Every ``step``-th row and column of every frame."""
    return frames[:, ::step, ::step]


def frame_means(frames: np.ndarray) -> list[list[float]]:
    """Mean of every colour of every frame."""
    return [[round(float(mean), 3) for mean in frame] for frame in frames.mean((1, 2))]


def facts_of(data: bytes, codec: Codec, pixels: Path) -> dict[str, Any]:
    """What a file decodes to; stores some pixels of every prefix beside it."""
    header, file = read_header(BytesIO(data)), BytesIO(data)
    prefixes = [codec.decompress(data, levels=k + 1).frames for k in range(header.num_levels)]
    step = max(1, round((prefixes[0][..., 0].size / PIXELS) ** 0.5))
    np.savez_compressed(pixels, **{f"levels{k + 1}": sampled(f, step) for k, f in enumerate(prefixes)})
    side = open_side(file, header)
    held = side and side.read()
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "version": VERSION,
        "header": header_facts(header),
        "side_sha256": held and hashlib.sha256(held).hexdigest(),
        "digests": symbol_digests(data, codec=codec),
        "pixel_step": step,
        "frame_means": [frame_means(frames) for frames in prefixes],
    }


Facts = dict[str, Any]


def facts_with_missing(
    known: Path,
    codec: Codec,
    files: Mapping[str, Callable[[Codec], bytes]],
    facts_of: Callable[[bytes, Codec, Path], Facts],
) -> Facts:
    """Write the files that are missing beside what is known of all; returns that with theirs."""
    facts: Facts = json.loads(known.read_text()) if known.exists() else {}
    for name, make in files.items():
        path = known.parent / f"v{VERSION}-{name}.mpt"
        if not path.exists():
            path.write_bytes(make(codec))
            facts[path.name] = facts_of(path.read_bytes(), codec, path.with_suffix(".npz"))
    return facts


def main() -> None:
    """Write what is missing."""
    if not WEIGHTS.exists():
        write_weights(make_model(), WEIGHTS)
    codec = mptvc.load(WEIGHTS, device="cpu", dtype="float32")
    facts = facts_with_missing(FACTS, codec, FILES, facts_of)
    FACTS.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
