"""Packets of sound and subtitles: when they are shown, and copies of their streams in other containers."""

from collections.abc import Iterable
from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import av
from av.bitstream import BitStreamFilterContext
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from mptvc.video.ffmpeg import REFUSALS, reason
from mptvc.video.texts import TextCopy

if TYPE_CHECKING:
    from av.packet import Packet

AnyPacket: TypeAlias = "Packet[Any]"
#: Lets MP4 hold TrueHD, as FFmpeg's program does where it is told to.
EXPERIMENTAL = {"strict": "experimental"}
#: Packets that are earlier than the one before by no more stand for the same time.
_SAME_S = Fraction(1, 10)
#: Sound that starts earlier than pictures by no more is what its decoder needs to start.
PRIMING_S = Fraction(1, 10)
#: What a number of channels means where a container does not say.
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


def first_packets(container: av.container.InputContainer) -> dict[int, AnyPacket]:
    """The first packet of each stream that has any, by the stream's index."""
    first: dict[int, AnyPacket] = {}
    for packet in container.demux():
        if packet.size:
            first.setdefault(packet.stream.index, packet)
        if len(first) == len(container.streams):
            break
    return first


def refusal(container: str, stream: Stream, packet: "AnyPacket | None" = None) -> str:
    """Why a container does not take a stream, empty where it does; some find out only with a packet."""
    out = av.open(BytesIO(), "w", format=container.split(",")[0], options=EXPERIMENTAL)
    try:
        if isinstance(stream, av.AudioStream) and not stream.codec_context.sample_rate:
            return "nothing is known of its samples"
        copy = copy_of(out, stream)
        out.start_encoding()
        if packet is not None and (taken := copy.taken(packet)) is not None:
            out.mux(taken)
        out.close()
    except REFUSALS as error:
        return reason(error)
    return ""


def label(stream: Stream) -> str:
    """What messages call a stream."""
    context = stream.codec_context
    name = context.name if context is not None else getattr(stream, "name", None)
    return f"the {stream.type} stream {stream.index} ({name or 'unknown'})"


class Copy(Protocol):
    """A stream of an output container for the packets of another's."""

    @property
    def stream(self) -> Stream:
        """The stream."""

    def taken(self, packet: AnyPacket) -> "AnyPacket | None":
        """A packet as the stream holds it; None where nothing is left of it."""


class _PlainCopy:
    """A stream that takes packets as they are."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def taken(self, packet: AnyPacket) -> AnyPacket:
        packet.stream = self.stream
        return packet


def copy_of(out: av.container.OutputContainer, stream: Stream) -> Copy:
    """Add a stream to ``out`` for the packets of a given one.

    Text that ``out`` does not hold as it is becomes the kind that it does.

    Raises:
        ValueError: ``out`` does not hold it; others find out when the header is written.
        av.FFmpegError: FFmpeg refuses.
    """
    try:
        copy: Copy = _PlainCopy(_template_copy(out, stream))
    except ValueError:
        if isinstance(stream, SubtitleStream):
            copy = TextCopy(out, stream)
        elif isinstance(stream, av.AudioStream):
            copy = _PlainCopy(_guest(out, stream))
        else:
            raise
    copy.stream.metadata.update(stream.metadata)
    copy.stream.disposition = stream.disposition
    return copy


def _guest(out: av.container.OutputContainer, stream: "av.AudioStream") -> "av.AudioStream":
    """A stream of sound that PyAV does not let into a container, though FFmpeg's muxer takes it.

    PyAV asks for the codecs that have a name of their own in the container; Matroska holds those of WAV too.
    """
    guest = out.add_stream("pcm_s16le", rate=stream.codec_context.sample_rate)
    guest.codec_context.open()
    BitStreamFilterContext("null", stream, guest)  # describes the one stream as the other
    guest.codec_context.codec_tag = "\0" * 4
    return guest


def _template_copy(out: av.container.OutputContainer, stream: Stream) -> Stream:
    copy = out.add_stream_from_template(stream)
    if isinstance(copy, av.AudioStream):
        layout = copy.codec_context.layout
        # Raw samples may come without the meaning of their channels, which MP4 wants to know.
        if layout.name == f"{layout.nb_channels} channels" and layout.nb_channels in _LAYOUTS:
            copy.codec_context.layout = _LAYOUTS[layout.nb_channels]
    return copy


def kept_as(copies: dict[int, Copy], streams: Iterable[Stream]) -> list[str]:
    """Warnings of text that is not kept as it was."""
    return [
        f"{label(stream)} is kept as {copies[stream.index].stream.codec_context.name}"
        for stream in streams
        if isinstance(copies[stream.index], TextCopy)
    ]


def stamp(packet: AnyPacket) -> int | None:
    """When a packet is shown, or else decoded, in its ticks."""
    return packet.pts if packet.pts is not None else packet.dts


def time_of(packet: AnyPacket) -> Fraction:
    """When a packet is shown, in seconds."""
    return (stamp(packet) or 0) * packet.time_base


def end_of(packet: AnyPacket) -> Fraction:
    """Until when a packet is shown, in seconds."""
    return time_of(packet) + (packet.duration or 0) * packet.time_base


def move(packet: AnyPacket, seconds: Fraction | int) -> None:
    """Shift a packet's time stamps, to the nearest tick."""
    ticks = round(seconds / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts + ticks
    packet.dts = None if packet.dts is None else packet.dts + ticks


def begin_at(packet: AnyPacket, start: Fraction) -> None:
    """Let a subtitle that is shown at a time already begin then; a packet of sound stays whole."""
    late = round((start - time_of(packet)) / packet.time_base)
    if packet.stream.type == "subtitle" and packet.pts is not None and late > 0:
        packet.pts = packet.dts = packet.pts + late
        packet.duration = max(1, (packet.duration or 0) - late)


class Rising:
    """Sees to it that the packets of a stream rise in time; one of an equal time is moved by a tick.

    Containers with a coarse clock give short packets equal times, which of ours Matroska takes alone.

    Args:
        stream: A stream of a container that is begun.
    """

    def __init__(self, stream: Stream) -> None:
        self._tick = stream.time_base
        self._least_step = int(stream.container.format.name != "matroska")
        self._last: int | None = None

    def takes(self, packet: AnyPacket) -> bool:
        """Whether a packet comes after the one before it, if need be moved a little."""
        at = packet.dts if packet.dts is not None else packet.pts
        if at is None or packet.time_base is None or self._tick is None:
            return True
        ticks = round(at * packet.time_base / self._tick)
        last = ticks - 1 if self._last is None else self._last
        if (last - ticks) * self._tick > _SAME_S:
            return False
        least = last + self._least_step
        self._last = max(ticks, least)
        if ticks < least:
            packet.duration = round((packet.duration or 0) * packet.time_base / self._tick)
            packet.time_base = self._tick
            packet.dts = packet.pts = least
        return True
