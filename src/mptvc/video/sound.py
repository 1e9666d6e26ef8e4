"""Sound and subtitles of a source: packets copied as they are, never decoded.

They travel in a NUT container, which keeps packets and time stamps exactly, or in Matroska, which rounds to
milliseconds, where NUT has no place for a stream (text subtitles). Neither takes negative time stamps, so all
are moved by a whole number of seconds, the lead. Times are fractions of seconds from the video's first frame.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from tempfile import TemporaryFile
from typing import BinaryIO, Self

import av
from av.stream import Stream

from mptvc.format.sections import FileView
from mptvc.video.ffmpeg import REFUSALS, reason, refusals
from mptvc.video.packets import (
    AnyPacket,
    copy_streams,
    end_of,
    first_packets,
    label,
    move,
    refusal,
    stamp,
    time_of,
)

_CONTAINERS = ("nut", "matroska")
#: Later packets may start earlier than those that were read first, by less than this.
_SPARE_S = 10
#: Packets that are earlier than the one before by no more stand for the same time.
_SAME_S = Fraction(1, 10)


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
        self._waiting: list[AnyPacket] = []
        self._ended: set[int] = set()
        self._origin: Fraction | None = None
        self._end: Fraction | None = None
        self._keep_early = True
        self._file: BinaryIO | None = None
        self._out: av.container.OutputContainer | None = None
        self._copies: dict[int, Stream] = {}
        self._last: dict[int, int] = {}  # the newest time of each copy, in its ticks
        self._lead = 0
        self._name = ""  # of the container

    def skip(self, until: Fraction) -> None:
        """Drop what ends before a time of the source, as the video starts later."""
        self._waiting = [packet for packet in self._waiting if end_of(packet) > until]

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
        first = min((time_of(p) for p in waiting if self._is_kept(p)), default=origin)
        self._lead = max(0, ceil(origin - first)) + _SPARE_S
        for packet in waiting:
            self.add(packet)

    def add(self, packet: AnyPacket) -> None:
        """Take the next packet of one of the streams."""
        if stamp(packet) is None or not packet.size:  # an end marker
            return
        if self._origin is None:
            self._waiting.append(packet)
            return
        if self._end is not None and time_of(packet) >= self._end:
            self._ended.add(packet.stream.index)
        if self._is_kept(packet):
            self._store(packet)

    def drain(self, packets: Iterable[AnyPacket]) -> None:
        """Take what the streams still have after the video's last frame, until its end in time."""
        mine = {stream.index for stream in self.streams}
        for packet in packets:
            if packet.stream.index in mine:
                self.add(packet)
            if self._ended >= mine:
                return

    def _is_kept(self, packet: AnyPacket) -> bool:
        at, origin = time_of(packet), self._origin or Fraction(0)
        if self._end is not None and at >= self._end:
            return False
        return self._keep_early or end_of(packet) > origin

    def _store(self, packet: AnyPacket) -> None:
        if self._out is None:
            self._open()
        copy = self._copies.get(packet.stream.index)
        shift = self._lead - (self._origin or Fraction(0))
        if self._out is None or copy is None or time_of(packet) + shift < 0:
            return
        name = label(packet.stream)
        packet.stream = copy
        move(packet, shift)
        if not self._follows(packet, copy):
            self._warn(f"{name} goes back in time: what does is left out")
            return
        try:
            self._out.mux(packet)
        except REFUSALS as error:
            self._warn(f"{name} is not whole: {reason(error)}")

    def _warn(self, warning: str) -> None:
        """Take a warning, once."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _follows(self, packet: AnyPacket, copy: Stream) -> bool:
        """Whether a packet comes after the one before it; one of an equal time is moved by a tick.

        Containers with a coarse clock give short packets equal times, which of ours Matroska takes alone.
        """
        at = packet.dts if packet.dts is not None else packet.pts
        if at is None or packet.time_base is None or copy.time_base is None:
            return True
        ticks = round(at * packet.time_base / copy.time_base)
        last = self._last.get(copy.index, ticks - 1)
        if (last - ticks) * copy.time_base > _SAME_S:
            return False
        least = last + (self._name != "matroska")
        self._last[copy.index] = max(ticks, least)
        if ticks < least:
            packet.time_base = copy.time_base
            packet.dts = packet.pts = least
        return True

    def _open(self) -> None:
        """Make the container that takes most of the streams; those that it does not are left out."""
        refused = {name: {s: refusal(name, s) for s in self.streams} for name in _CONTAINERS}
        name = min(_CONTAINERS, key=lambda name: sum(map(bool, refused[name].values())))
        for stream, why in refused[name].items():
            if why:
                self.warnings.append(f"{label(stream)} is left out: {why}")
        self._file = TemporaryFile()  # noqa: SIM115 - closed by close
        self._out, self._name = av.open(self._file, "w", format=name), name
        held = [stream for stream, why in refused[name].items() if not why]
        self._copies = copy_streams(self._out, held, self.warnings)
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
        self._next: AnyPacket | None = None
        self._copies: dict[int, Stream] = {}

    def add_streams(self, out: av.container.OutputContainer) -> None:
        """Announce the streams to an output container; those that it cannot hold are left out."""
        with _open_side(self._section.again()) as trial:
            first = first_packets(trial)
            held = [
                self._container.streams[index]
                for index, packet in sorted(first.items())
                if not refusal(out.format.name, packet.stream, packet)
            ]
        lost = [s for s in self._container.streams if s not in held]
        self.warnings += [f"{label(stream)} is left out: {out.format.name} cannot hold it" for stream in lost]
        self._copies = copy_streams(out, held, self.warnings)
        self._next = next(self._packets, None)

    def play(self, out: av.container.OutputContainer, until: Fraction | None) -> None:
        """Write the packets that start before a time; all that are left for None."""
        while self._next is not None and (until is None or time_of(self._next) < until):
            out.mux(self._next)
            self._next = next(self._packets, None)

    def _read(self) -> Iterator[AnyPacket]:
        """Packets of the copied streams with their times in the output, until each is past the end."""
        ended: set[Stream] = set()
        for packet in self._container.demux():
            if len(ended) == len(self._copies):
                return
            copy = self._copies.get(packet.stream.index)
            if copy is None or stamp(packet) is None or not packet.size:
                continue
            move(packet, self._shift)
            at = time_of(packet)
            if self._end is not None and at >= self._end:
                ended.add(copy)
                continue
            if self._trimmed and end_of(packet) <= 0:
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
