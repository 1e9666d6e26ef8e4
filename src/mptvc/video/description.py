"""What a container says of its video before any frame is decoded, and whether that can be used here."""

import re
from dataclasses import dataclass
from fractions import Fraction

import av
from av.format import Flags
from av.video.format import VideoFormat

from mptvc.errors import VideoError
from mptvc.format.header import Colour
from mptvc.video.colour import MATRICES, stream_colour

#: Frames a second where nothing says it.
USUAL_RATE = Fraction(25)
#: Of the numerator and denominator of a frame rate.
_LARGEST_RATIO = 2**31


@dataclass(frozen=True)
class SourceInfo:
    """What a container says of its video.

    Attributes:
        name: What messages call the source.
        width: Pixels.
        height: Pixels.
        frame_rate: Frames a second; of uneven ones, no container states the mean reliably.
        time_base: Unit of time stamps in seconds.
        pixel_aspect: Width of a pixel over its height.
        colour: Colour description.
        expected_frames: An estimate of the number of frames, from what the container says of it or of
            its length.
        promised_frames: The number of frames that the container states exactly; 0 if it does not.
    """

    name: str
    width: int
    height: int
    frame_rate: Fraction
    time_base: Fraction
    pixel_aspect: Fraction
    colour: Colour
    expected_frames: int
    promised_frames: int


class Warnings:
    """What a user should know of a source, as it is found.

    Args:
        name: What messages call the source.
        strict: Refuse the source instead.

    Attributes:
        found: The warnings so far.
    """

    def __init__(self, name: str, strict: bool) -> None:
        self._name, self._strict = name, strict
        self.found: list[str] = []

    def add(self, message: str) -> None:
        """Take a warning.

        Raises:
            VideoError: The source is to be refused for it.
        """
        if self._strict:
            raise VideoError(f"{self._name}: {message}; strict=True refuses that")
        self.found.append(message)


def describe(name: str, container: av.container.InputContainer, stream: av.VideoStream) -> SourceInfo:
    """Describe a video stream."""
    context = stream.codec_context
    rate = _rate(container, stream)
    length_s = Fraction(container.duration or 0, av.time_base)
    aspect = stream.sample_aspect_ratio
    return SourceInfo(
        name=name,
        width=context.width,
        height=context.height,
        frame_rate=Fraction(rate).limit_denominator(_LARGEST_RATIO),
        time_base=Fraction(stream.time_base or 1 / rate),
        pixel_aspect=Fraction(aspect) if aspect else Fraction(1),
        colour=stream_colour(context),
        expected_frames=stream.frames or max(1, round(length_s * rate)),
        promised_frames=_promised_frames(container, stream),
    )


def _rate(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction:
    """Frames a second; a raw stream says it inside, and FFmpeg puts 25 where a container would say it."""
    is_raw = Flags(container.format.flags) & Flags.no_timestamps
    first, second = stream.average_rate, stream.guessed_rate
    return (second or first if is_raw else first or second) or USUAL_RATE


def _promised_frames(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """How many frames a container states.

    The index of MP4 leaves out what its edit list does, that of AVI leaves out empty packets, while headers
    count both; an AVI that is cut has no index, but an entry for its first frame.
    """
    entries = len(stream.index_entries)
    is_indexed = entries > 1 and {"mov", "avi"} & set(container.format.name.split(","))
    return min(stream.frames, entries) if is_indexed else stream.frames


def check_stream(name: str, stream: av.VideoStream, force_8bit: bool, warnings: Warnings) -> None:
    """Check that the pixels of a stream can be used.

    Raises:
        VideoError: FFmpeg does not know its codec, it has more than 8 bits without leave, or a warning
            refuses it.
    """
    context = stream.codec_context
    pixel_format = context.format if context else None  # there is none for an unknown codec
    if pixel_format is None:
        raise VideoError(f"{name}: no decodable video stream")
    check_depth(name, pixel_format, force_8bit)
    matrix = int(context.colorspace)
    if not pixel_format.is_rgb and matrix not in (0, 2, *MATRICES):
        warnings.add(f"the colour matrix {matrix} is unknown, the usual one is taken")


def check_depth(name: str, pixel_format: VideoFormat, force_8bit: bool) -> None:
    """Check that pixels have 8 bits, or may be rounded to them.

    Raises:
        VideoError: They have more.
    """
    bits = max(component.bits for component in pixel_format.components)
    if bits > 8 and not force_8bit:
        raise VideoError(
            f"{name}: {bits}-bit video; force_8bit=True converts it to 8 bits, which loses precision and "
            "keeps the colour tags"
        )


def promised_s(stream: av.VideoStream) -> float:
    """Length that Matroska or MXF states of a stream, in seconds; 0 if it does not."""
    if stream.container.format.name == "mxf":
        return float((stream.duration or 0) * (stream.time_base or 0))
    match = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if match is None:
        return 0.0
    hours, minutes, seconds = map(float, match.groups())
    return 3600 * hours + 60 * minutes + seconds
