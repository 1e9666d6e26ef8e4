"""Sound and subtitles of a source, and what else its container holds: packets are copied as they are.

They travel in a NUT container, which keeps packets and time stamps exactly, or in Matroska, which rounds to
milliseconds, where NUT has no place for something (text subtitles, fonts); texts and chapters without any
packet travel as FFmpeg's text of them. None takes negative time stamps, so all are moved by a whole number of
seconds, the lead. Times are fractions of seconds from the video's first frame.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from tempfile import TemporaryFile
from typing import BinaryIO, Self

import av
from av.stream import Stream

from mptvc.format.sections import FileView
from mptvc.video.extras import Extras
from mptvc.video.ffmpeg import REFUSALS, reason, refusals
from mptvc.video.packets import (
    PRIMING_S,
    AnyPacket,
    Copy,
    Rising,
    begin_at,
    copy_of,
    end_of,
    first_packets,
    kept_as,
    label,
    move,
    refusal,
    stamp,
    time_of,
)
from mptvc.video.streams import PICTURES

#: Containers of packets by their first bytes, the best first, and the one of texts alone.
_CONTAINERS = {b"nut/": "nut", b"\x1aE\xdf\xa3": "matroska"}
_TEXTS = "ffmetadata"
#: Without names by chance or of FFmpeg's version: the same source gives the same section.
_REPEATABLE = {"fflags": "+bitexact"}
#: Sound that FFmpeg's NUT loses: packets of MPEG whose size is the usual one, and E-AC-3 comes back as AC-3.
#: Of subtitles it loses how long they are shown.
_NOT_IN_NUT = {"mp1", "mp2", "mp3", "eac3"}
#: Later packets may start earlier than those that were read first, by less than this.
_SPARE_S = 10


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

    Titles and chapters are kept too, and fonts where there are streams.

    Args:
        container: The source.

    Attributes:
        streams: The streams to hand in packets of.
        warnings: What could not be kept.
    """

    def __init__(self, container: av.container.InputContainer) -> None:
        found = (*container.streams.audio, *container.streams.subtitles)
        self.streams: tuple[Stream, ...] = tuple(s for s in found if s.codec_context is not None)
        self._extras = Extras.of(container)
        self.warnings = [f"{label(s)} is left out" for s in _others(container, self._extras)]
        self._waiting: list[AnyPacket] = []
        self._ended: set[int] = set()
        self._origin: Fraction | None = None
        self._end: Fraction | None = None
        self._keep_early = True
        self._file: BinaryIO | None = None
        self._out: av.container.OutputContainer | None = None
        self._copies: dict[int, Copy] = {}
        self._kept: Counter[int] = Counter()  # packets of each copy
        self._rising: dict[int, Rising] = {}
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
            if not self._keep_early:
                begin_at(packet, self._origin)
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
        is_cut = packet.is_discard and at < origin - PRIMING_S  # by an edit list
        if is_cut or (self._end is not None and at >= self._end):
            return False
        return self._keep_early or end_of(packet) > origin

    def _store(self, packet: AnyPacket) -> None:
        if self._out is None:
            self._open()
        copy, name = self._copies.get(packet.stream.index), label(packet.stream)
        shift = self._lead - (self._origin or Fraction(0))
        if self._out is None or copy is None or time_of(packet) + shift < 0:
            return
        try:
            taken = copy.taken(packet)
            if taken is None:
                return
            move(taken, shift)
            if not self._rising[copy.stream.index].takes(taken):
                self._warn(f"{name} goes back in time: what does is left out")
                return
            self._out.mux(taken)
            self._kept[copy.stream.index] += 1
        except REFUSALS as error:
            self._warn(f"{name} is not whole: {reason(error)}")

    def _warn(self, warning: str) -> None:
        """Take a warning, once."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _open(self) -> None:
        """Make the container that takes most; what it does not is left out."""
        refused = {name: {s: _refusal(name, s) for s in self.streams} for name in _CONTAINERS.values()}
        lost = {name: sum(map(bool, of.values())) for name, of in refused.items()}
        lost["nut"] += len(self._extras.attachments)
        name = min(lost, key=lambda name: lost[name])
        self.warnings += [f"{label(s)} is left out: {why}" for s, why in refused[name].items() if why]
        held = [stream for stream, why in refused[name].items() if not why]
        self._begin(name, held)

    def _begin(self, name: str, streams: Iterable[Stream]) -> None:
        """Start a container of some streams; without any it holds texts and chapters alone."""
        self._file = TemporaryFile()  # noqa: SIM115 - closed by close
        self._name = name if streams else _TEXTS
        self._out = av.open(self._file, "w", format=self._name, options=_REPEATABLE)
        self._copies = {stream.index: copy_of(self._out, stream) for stream in streams}
        self.warnings += kept_as(self._copies, streams)
        origin = self._origin or Fraction(0)
        self.warnings += self._extras.within(origin, self._end, self._lead - origin).write(self._out)
        self._out.start_encoding()  # from here on the streams' own clocks are known
        self._rising = {copy.stream.index: Rising(copy.stream) for copy in self._copies.values()}

    def finish(self) -> SideData | None:
        """Everything that was kept, or None for nothing.

        Raises:
            VideoError: The packets cannot be stored.
        """
        if self._out is None and (self._extras.texts or self._extras.chapters):
            self._begin(_TEXTS, ())
        if self._out is None or self._file is None:
            return None
        with refusals("sound cannot be copied"):
            self._out.close()
        self._out = None
        self._file.seek(0)
        self._count_again()
        self._file.seek(0)
        return SideData(self._file, self._lead)

    def _count_again(self) -> None:
        """Warn where packets do not come back from the container, of which FFmpeg says nothing."""
        if self._file is None or self._name == _TEXTS:
            return
        with refusals("sound cannot be copied"), av.open(self._file, "r", format=self._name) as container:
            back = Counter(p.stream.index for p in container.demux() if p.size)
            for index, count in self._kept.items():
                if back[index] != count:
                    name = label(container.streams[index])
                    self._warn(f"{name} is not whole: {back[index]} of {count} packets")

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
        last = None if end is None else lead_s + end
        self._extras = Extras.of(self._container).within(lead_s + start, last, -lead_s - start)
        self.warnings: list[str] = []
        self._shift, self._end = -lead_s - start, None if end is None else end - start
        self._trimmed = trimmed
        self._packets = self._read()
        self._next: AnyPacket | None = None
        self._copies: dict[int, Copy] = {}
        self._rising: dict[int, Rising] = {}

    @property
    def contents(self) -> str:
        """What there is, in words."""
        return "sound or subtitles" if self._container.streams else "titles or chapters"

    def add_streams(self, out: av.container.OutputContainer) -> None:
        """Announce everything to an output container; what it cannot hold is left out."""
        with _open_side(self._section.again()) as trial:
            first = first_packets(trial)
            held = [
                self._container.streams[index]
                for index, packet in sorted(first.items())
                if not refusal(out.format.name, packet.stream, packet)
            ]
        lost = [s for s in self._container.streams if s not in held and s.type != "attachment"]
        self.warnings += [f"{label(stream)} is left out: {out.format.name} cannot hold it" for stream in lost]
        self._copies = {stream.index: copy_of(out, stream) for stream in held}
        self.warnings += kept_as(self._copies, held)
        self.warnings += self._extras.write(out)
        if not self._trimmed and min(map(time_of, first.values()), default=0) + self._shift < -PRIMING_S:
            out.options["avoid_negative_ts"] = "make_zero"  # or MP4 starts with the first picture
        if self._copies:
            out.start_encoding()
        self._rising = {copy.stream.index: Rising(copy.stream) for copy in self._copies.values()}
        self._next = next(self._packets, None)

    def play(self, out: av.container.OutputContainer, until: Fraction | None) -> None:
        """Write the packets that start before a time; all that are left for None."""
        while self._next is not None and (until is None or time_of(self._next) < until):
            out.mux(self._next)
            self._next = next(self._packets, None)

    def _read(self) -> Iterator[AnyPacket]:
        """Packets of the copied streams with their times in the output, until each is past the end."""
        ended: set[int] = set()
        newest: dict[int, int] = {}
        for packet in self._container.demux():
            if len(ended) == len(self._copies):
                return
            index, started = packet.stream.index, stamp(packet)
            copy = self._copies.get(index)
            if copy is None or started is None or not packet.size:
                continue
            # NUT does not say how long a packet is, and MP4 ends where the last one does.
            packet.duration = packet.duration or max(0, started - newest.get(index, started))
            newest[index] = started
            move(packet, self._shift)
            at = time_of(packet)
            if self._end is not None and at >= self._end:
                ended.add(index)
                continue
            if self._trimmed:
                if end_of(packet) <= 0:
                    continue
                begin_at(packet, Fraction(0))
            taken = copy.taken(packet)
            if taken is not None and self._rising[copy.stream.index].takes(taken):
                yield taken

    def close(self) -> None:
        """Close the section."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_side(section: FileView) -> av.container.InputContainer:
    kind = _CONTAINERS.get(section.read(4), _TEXTS)
    section.seek(0)
    with refusals("sound and subtitles cannot be read"):
        return av.open(section, "r", format=kind)


def _others(container: av.container.InputContainer, extras: Extras) -> list[Stream]:
    """Streams that are not kept; a video stream that is not taken is named elsewhere."""
    chapters = {"bin_data"} if extras.chapters else set()  # MP4 holds them as a stream too
    data = [s for s in container.streams.data if s.name not in chapters]
    sound = [s for s in (*container.streams.audio, *container.streams.subtitles) if s.codec_context is None]
    return [*sound, *data, *(s for s in container.streams.video if s.disposition & PICTURES)]


def _refusal(container: str, stream: Stream) -> str:
    """Why a side section's container does not take a stream; empty where it does."""
    is_lost = stream.type == "subtitle" or stream.codec_context.codec.canonical_name in _NOT_IN_NUT
    if container == "nut" and is_lost:
        return "NUT loses it"
    return refusal(container, stream)
