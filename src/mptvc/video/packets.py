"""Packets of sound and subtitles: when they are shown, and copies of their streams in other containers."""

from collections.abc import Iterable
from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

import av
from av.stream import Stream

from mptvc.video.ffmpeg import REFUSALS, reason

if TYPE_CHECKING:
    from av.packet import Packet

AnyPacket: TypeAlias = "Packet[Any]"
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
    warnings: list[str] = []
    out = av.open(BytesIO(), "w", format=container.split(",")[0])
    try:
        if isinstance(stream, av.AudioStream) and not stream.codec_context.sample_rate:
            return "nothing is known of its samples"
        copies = copy_streams(out, [stream], warnings)
        if copies:
            out.start_encoding()
        if copies and packet is not None:
            packet.stream = copies[stream.index]
            out.mux(packet)
        out.close()
    except REFUSALS as error:
        return reason(error)
    return "".join(warnings)


def label(stream: Stream) -> str:
    """What messages call a stream."""
    name = stream.codec_context.name if stream.codec_context is not None else "unknown"
    return f"the {stream.type} stream {stream.index} ({name})"


def copy_streams(
    out: av.container.OutputContainer, streams: Iterable[Stream], warnings: list[str]
) -> dict[int, Stream]:
    """Add a stream to ``out`` for each given one, by the given one's index."""
    copies: dict[int, Stream] = {}
    for stream in streams:
        try:
            copy = out.add_stream_from_template(stream)
            if isinstance(copy, av.AudioStream):
                _name_layout(copy)
            copy.metadata.update(stream.metadata)
            copies[stream.index] = copy
        except REFUSALS as error:
            warnings.append(f"{label(stream)} is left out: {reason(error)}")
    return copies


def _name_layout(stream: "av.AudioStream") -> None:
    """Raw samples may come without the meaning of their channels, which MP4 wants to know."""
    layout = stream.codec_context.layout
    if layout.name == f"{layout.nb_channels} channels" and layout.nb_channels in _LAYOUTS:
        stream.codec_context.layout = _LAYOUTS[layout.nb_channels]


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
