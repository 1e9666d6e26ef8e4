"""What encodes a source that is open: its frames, one after the other, to a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from mptvc.codec.encoder import Compressor, checked_lengths
from mptvc.codec.rate import Rate
from mptvc.errors import MptError
from mptvc.files.tokens import TokenCompressor
from mptvc.format.chunks import time_bytes
from mptvc.format.header import Header, prefix_name
from mptvc.format.target import open_target
from mptvc.video.source import VideoSource

#: Called with the frames done and the frames expected.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EncodeReport:
    """What ``encode_file`` wrote.

    Attributes:
        header: The file's header.
        warnings: What a user should know about the source.
        is_silenced: Whether the source has sound or subtitles, and they were not asked for.
        others: The files of the further parts of a source whose size changes, if it is split.
    """

    header: Header
    warnings: tuple[str, ...]
    is_silenced: bool = False
    others: Mapping[Path, "EncodeReport"] = field(default_factory=dict)


def encode_source(
    source: VideoSource,
    encoder: Compressor | TokenCompressor,
    target: str | Path | BinaryIO,
    rate: Rate,
    *,
    shots: Sequence[int] | None = None,
    strict: bool = False,
    force: bool = False,
    read: Callable[[int], None] | None = None,
) -> EncodeReport:
    """Write the file of a source.

    Args:
        source: The source, open; of its sound, a file of tokens takes none.
        encoder: Takes the frames and writes the file.
        target: Path or binary file object of the result.
        rate: What the encoder goes by.
        shots: Frames of each shot where they are known.
        strict: Refuse what otherwise is a warning.
        force: Replace an existing target.
        read: Called after each frame with the number of frames that are read.

    Raises:
        VideoError: The source cannot be read.
        MptError: The target exists or cannot be written.
        ValueError: ``shots`` do not add up to the frames.
    """
    frames = source.frames()
    starts = None if shots is None else set(accumulate(shots, initial=0))
    for count, frame in enumerate(frames, start=1):
        encoder.add(frame.pixels, is_cut=frame.is_cut if starts is None else count - 1 in starts)
        if read is not None:
            read(count)
    outcome = frames.outcome()
    checked_lengths(shots, outcome.video.num_frames)
    with open_target(target, force=force) as out:
        if outcome.side is None or isinstance(encoder, TokenCompressor):
            header = encoder.finish(outcome.video, out)
        else:
            header = encoder.finish(outcome.video, out, outcome.side.file, outcome.side.lead_s)
        exceeded = _exceeded(header, rate)
        if exceeded and strict:
            raise MptError(f"{exceeded[0]}; strict=True refuses that")
    return EncodeReport(header, (*outcome.warnings, *exceeded), source.is_silenced)


def _exceeded(header: Header, rate: Rate) -> list[str]:
    """For each prefix that takes more bits than the rate allows, a warning."""
    stamps = time_bytes(header.video)
    pixels = header.video.num_pixels
    taken = [8 * (header.picture_bytes(k + 1) - stamps) / pixels for k in range(header.num_levels)]
    return [
        f"{prefix_name(k + 1)}: {bpp:.4g} bits per pixel, more than {most:g}: "
        "the coarsest quantization was not enough"
        for k, (bpp, most) in enumerate(zip(taken, rate.bpp, strict=False))
        if bpp > most
    ]
