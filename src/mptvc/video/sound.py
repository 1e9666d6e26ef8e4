"""Sound and subtitles of a source: packets copied as they are, never decoded.

They travel in a NUT container, which keeps packets and time stamps exactly, or in Matroska, which rounds to
milliseconds, where NUT has no place for a stream (text subtitles). Neither takes negative time stamps, so all
are moved by a whole number of seconds, the lead. Times are fractions of seconds from the video's first frame.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from math import ceil
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeAlias

import av
from av.stream import Stream

from mptvc.format.sections import FileView
from mptvc.video.ffmpeg import REFUSALS, reason, refusals

if TYPE_CHECKING:
    from av.packet import Packet

_Packet: TypeAlias = "Packet[Any]"
_CONTAINERS = ("nut", "matroska")
#: What a number of channels means where a container does not say.
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
#: Later packets may start earlier than those that were read first, by less than this.
_SPARE_S = 10
#: Packets that are earlier than the one before by no more stand for the same time.
_SAME_S = Fraction(1, 100)


@dataclass(frozen=True)
class SideData:
    """A finished side section.

    Attributes:
        file: The container, at its start.
        lead_s: Seconds by which its time stamps are late.
    """

    file: BinaryIO
    lead_s: int


class SideRecorder:
    """Takes packets of a source's sound and subtitle streams and keeps those that belong to the video.

    Args:
        container: The source.

    Attributes:
        streams: The streams to hand in packets of.
        warnings: What could not be kept.
    """

    def __init__(self, container: av.container.InputContainer) -> None:
        found = (*container.streams.audio, *container.streams.subtitles)
        self.streams: tuple[Stream, ...] = tuple(s for s in found if s.codec_context is not None)
        self.warnings: list[str] = []
        self._waiting: list[_Packet] = []
        self._ended: set[int] = set()
        self._origin: Fraction | None = None
        self._end: Fraction | None = None
        self._keep_early = True
        self._file: BinaryIO | None = None
        self._out: av.container.OutputContainer | None = None
        self._copies: dict[int, Stream] = {}
        self._last: dict[int, int] = {}  # the newest time of each copy, in its ticks
        self._lead = 0

    def skip(self, until: Fraction) -> None:
        """Drop what ends before a time of the source, as the video starts later."""
        self._waiting = [packet for packet in self._waiting if _end(packet) > until]

    def start(self, origin: Fraction, duration: Fraction | None, *, trimmed: bool) -> None:
        """Say when the video starts, in the source's time; packets may have come before.

        Args:
            origin: Time of the first frame.
            duration: Seconds to keep, None for all.
            trimmed: The source starts earlier, so what ends before ``origin`` is dropped.
        """
        self._origin, self._keep_early = origin, not trimmed
        self._end = None if duration is None else origin + duration
        waiting, self._waiting = self._waiting, []
        first = min((_time(p) for p in waiting if self._is_kept(p)), default=origin)
        self._lead = max(0, ceil(origin - first)) + _SPARE_S
        for packet in waiting:
            self.add(packet)

    def add(self, packet: _Packet) -> None:
        """Take the next packet of one of the streams."""
        if _stamp(packet) is None or not packet.size:  # an end marker
            return
        if self._origin is None:
            self._waiting.append(packet)
            return
        if self._end is not None and _time(packet) >= self._end:
            self._ended.add(packet.stream.index)
        if self._is_kept(packet):
            self._store(packet)

    def drain(self, packets: Iterable[_Packet]) -> None:
        """Take what the streams still have after the video's last frame, until its end in time."""
        mine = {stream.index for stream in self.streams}
        for packet in packets:
            if packet.stream.index in mine:
                self.add(packet)
            if self._ended >= mine:
                return

    def _is_kept(self, packet: _Packet) -> bool:
        at, origin = _time(packet), self._origin or Fraction(0)
        if self._end is not None and at >= self._end:
            return False
        return self._keep_early or _end(packet) > origin

    def _store(self, packet: _Packet) -> None:
        if self._out is None:
            self._open()
        copy = self._copies.get(packet.stream.index)
        shift = self._lead - (self._origin or Fraction(0))
        if self._out is None or copy is None or _time(packet) + shift < 0:
            return
        label = _label(packet.stream)
        packet.stream = copy
        _move(packet, shift)
        if not self._follows(packet, copy):
            if (warning := f"{label} goes back in time: what does is left out") not in self.warnings:
                self.warnings.append(warning)
            return
        with refusals(f"{label} cannot be copied"):
            self._out.mux(packet)

    def _follows(self, packet: _Packet, copy: Stream) -> bool:
        """Whether a packet comes after the one before it; one of an equal time is moved by a tick.

        Containers with a coarse clock give short packets equal times, which no container takes.
        """
        at = packet.dts if packet.dts is not None else packet.pts
        if at is None or packet.time_base is None or copy.time_base is None:
            return True
        ticks = round(at * packet.time_base / copy.time_base)
        last = self._last.get(copy.index, ticks - 1)
        if (last - ticks) * copy.time_base > _SAME_S:
            return False
        self._last[copy.index] = max(ticks, last + 1)
        if ticks <= last:
            packet.time_base = copy.time_base
            packet.dts = packet.pts = last + 1
        return True

    def _open(self) -> None:
        names = [name for name in _CONTAINERS if all(_holds(name, stream) for stream in self.streams)]
        self._file = TemporaryFile()  # noqa: SIM115 - closed by close
        self._out = av.open(self._file, "w", format=(names or _CONTAINERS)[0])
        self._copies = _copy_streams(self._out, self.streams, self.warnings)
        if self._copies:
            self._out.start_encoding()  # from here on the streams' own clocks are known

    def finish(self) -> SideData | None:
        """Everything that was kept, or None for nothing.

        Raises:
            VideoError: The packets cannot be stored.
        """
        if self._out is None or self._file is None or not self._copies:
            return None
        with refusals("sound cannot be copied"):
            self._out.close()
        self._out = None
        self._file.seek(0)
        return SideData(self._file, self._lead)

    def close(self) -> None:
        """Drop the temporary file."""
        if self._file is not None:
            self._file.close()


class SidePlayer:
    """Hands the packets of a side section to an output container.

    Args:
        section: The section, read as it is needed.
        lead_s: Its lead.
        start: Time of the first frame that is written; packets that end before are left out.
        end: Time at which the last frame ends; None keeps everything.
        trimmed: The output does not start with the video, so nothing may start before it.

    Raises:
        VideoError: The section is no container of packets.
    """

    def __init__(
        self, section: FileView, lead_s: int, start: Fraction, end: Fraction | None, *, trimmed: bool
    ) -> None:
        self._section, self._container = section, _open_side(section)
        self.warnings: list[str] = []
        self._shift, self._end = -lead_s - start, None if end is None else end - start
        self._trimmed = trimmed
        self._packets = self._read()
        self._next: _Packet | None = None
        self._copies: dict[int, Stream] = {}

    def add_streams(self, out: av.container.OutputContainer) -> None:
        """Announce the streams to an output container; those that it cannot hold are left out."""
        with _open_side(self._section.again()) as trial:
            first = _first_packets(trial)
            held = [
                self._container.streams[index]
                for index, packet in sorted(first.items())
                if _holds(out.format.name, packet.stream, packet)
            ]
        lost = [s for s in self._container.streams if s not in held]
        self.warnings += [
            f"{_label(stream)} is left out: {out.format.name} cannot hold it" for stream in lost
        ]
        self._copies = _copy_streams(out, held, self.warnings)
        self._next = next(self._packets, None)

    def play(self, out: av.container.OutputContainer, until: Fraction | None) -> None:
        """Write the packets that start before a time; all that are left for None."""
        while self._next is not None and (until is None or _time(self._next) < until):
            out.mux(self._next)
            self._next = next(self._packets, None)

    def _read(self) -> Iterator[_Packet]:
        """Packets of the copied streams with their times in the output, until each is past the end."""
        ended: set[Stream] = set()
        for packet in self._container.demux():
            if len(ended) == len(self._copies):
                return
            copy = self._copies.get(packet.stream.index)
            if copy is None or _stamp(packet) is None or not packet.size:
                continue
            _move(packet, self._shift)
            at = _time(packet)
            if self._end is not None and at >= self._end:
                ended.add(copy)
                continue
            if self._trimmed and _end(packet) <= 0:
                continue
            packet.stream = copy
            yield packet

    def close(self) -> None:
        """Close the section."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_side(section: FileView) -> av.container.InputContainer:
    kind = "nut" if section.read(4) == b"nut/" else "matroska"
    section.seek(0)
    with refusals("sound and subtitles cannot be read"):
        return av.open(section, "r", format=kind)


def _first_packets(container: av.container.InputContainer) -> dict[int, _Packet]:
    """The first packet of each stream that has any, by the stream's index."""
    first: dict[int, _Packet] = {}
    for packet in container.demux():
        if packet.size:
            first.setdefault(packet.stream.index, packet)
        if len(first) == len(container.streams):
            break
    return first


def _holds(container: str, stream: Stream, packet: "_Packet | None" = None) -> bool:
    """Whether a container takes a stream; some find out only when they are finished with a packet."""
    warnings: list[str] = []
    out = av.open(BytesIO(), "w", format=container.split(",")[0])
    try:
        copies = _copy_streams(out, [stream], warnings)
        if copies and packet is not None:
            packet.stream = copies[stream.index]
            out.mux(packet)
        out.close()
    except REFUSALS:
        return False
    return not warnings


def _label(stream: Stream) -> str:
    name = stream.codec_context.name if stream.codec_context is not None else "unknown"
    return f"the {stream.type} stream {stream.index} ({name})"


def _copy_streams(
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
            warnings.append(f"{_label(stream)} is left out: {reason(error)}")
    return copies


def _name_layout(stream: "av.AudioStream") -> None:
    """Raw samples may come without the meaning of their channels, which MP4 wants to know."""
    layout = stream.codec_context.layout
    if layout.name == f"{layout.nb_channels} channels" and layout.nb_channels in _LAYOUTS:
        stream.codec_context.layout = _LAYOUTS[layout.nb_channels]


def _stamp(packet: _Packet) -> int | None:
    return packet.pts if packet.pts is not None else packet.dts


def _time(packet: _Packet) -> Fraction:
    """When a packet is shown, in seconds."""
    return (_stamp(packet) or 0) * packet.time_base


def _end(packet: _Packet) -> Fraction:
    """Until when a packet is shown, in seconds."""
    return _time(packet) + (packet.duration or 0) * packet.time_base


def _move(packet: _Packet, seconds: Fraction | int) -> None:
    """Shift a packet's time stamps, to the nearest tick."""
    ticks = round(seconds / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts + ticks
    packet.dts = None if packet.dts is None else packet.dts + ticks
