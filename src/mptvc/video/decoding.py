"""Packets to frames as FFmpeg's own program decodes them: a fault belongs to its packet, not the stream."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction

import av
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame

from mptvc.errors import VideoError
from mptvc.video.description import SourceInfo, promised_s
from mptvc.video.ffmpeg import REFUSALS, reason
from mptvc.video.packets import AnyPacket, end_of, time_of
from mptvc.video.streams import another_decoder, decoder_of

#: Seconds to skip from which that pays, and the containers with an index of key frames.
_FAR_S = 2.0
_SEEKING = {"mp4", "matroska"}
#: Frames that are decoded before the first that is wanted: AVI says when packets are decoded, and whole
#: frames are made of interlaced ones with those before.
_SPARE_FRAMES = 8
#: Packets that are held until the next key frame.
_MOST_HELD = 10_000
#: Seconds that may be missing at the end of a stream before that is worth a word.
_MISSING_S = 0.5


class Decoding:
    """Decodes the packets of a stream, and counts what does not become a frame.

    A decoder has one thread here: with several it reports a fault with another packet than the one at fault,
    PyAV then leaves frames inside, and some decoders do without frames that they show otherwise. Next to
    coding, decoding takes no time.

    Args:
        stream: The stream.
        packets: Its packets, and others.
        info: Describes the stream.
        hand_on: Takes the other packets.

    Raises:
        VideoError: While frames are read: not one can be decoded.
    """

    def __init__(
        self,
        stream: av.VideoStream,
        packets: Iterator[AnyPacket],
        info: SourceInfo,
        hand_on: Callable[[AnyPacket], None],
    ) -> None:
        self._stream, self._packets, self._info, self._hand_on = stream, packets, info, hand_on
        self._hidden = 0  # packets that stand for no frame: empty, or left out by an edit list
        self._sought = False
        self._waiting: list[AnyPacket] = []  # where seeking has led to
        self._faults: list[str] = []
        self._stopped = ""
        self._decoded, self._end, self._last = 0, 0.0, 0.0  # the last: time of the latest packet
        self._clock = _Clock(info, by_decoding=stream.container.format.name == "avi")
        self._decoder = decoder_of(stream)
        #: What decodes the same without transparency, where something else shows that.
        self._plain = None if self._decoder is stream.codec_context else stream.codec_context
        self._opaque = 0
        for decoder in (self._decoder, stream.codec_context):
            decoder.thread_count = 1

    def frames(self, start: float = 0.0) -> Iterator[VideoFrame]:
        """The frames, all with a time stamp where the first has one.

        Args:
            start: Seconds from the first frame before which no other is needed. What comes before the last
                key frame until then is not decoded where frames and times are the same without it.
        """
        far = start > _FAR_S
        seeks = not _SEEKING.isdisjoint(self._stream.container.format.name.split(","))
        for packet in self._video_packets():
            for frame in self._frames_of(packet):
                self._clock.stamp(frame)
                self._decoded += 1
                self._end = max(self._end, self._end_of(frame))
                yield frame
                if far and frame.pts is not None:
                    far = False
                    first, spare_s = frame.pts, _SPARE_FRAMES / self._info.frame_rate
                    target = first + int((Fraction(start) - spare_s) / self._info.time_base)
                    if seeks:
                        self._seek(target, first)
                        break  # what else the packet held comes before the key frame, or again
                    self._packets = self._from_key(self._packets, target)
            far = far and not self._decoded
        if not self._decoded and (self._faults or self._stopped):
            why = self._faults[0] if self._faults else self._stopped
            raise VideoError(f"{self._info.name}: cannot be decoded: {why}")

    def _seek(self, target: int, first: int) -> None:
        """Go to the last key frame that is shown until a time in ticks, or else to the first frame."""
        container = self._stream.container
        if not isinstance(container, av.container.InputContainer):
            raise TypeError("what is read is an input")
        for at in (target, first):
            with suppress(*REFUSALS):
                container.seek(at, stream=self._stream)
                self._sought = True
            self._flush()
            found = self._up_to_picture()
            key = found[-1] if found else None
            if key is None or not key.is_keyframe or key.pts is None or key.pts > at:
                continue
            if at == first or self._starts(key):
                self._waiting = found[::-1]
                return

    def _up_to_picture(self) -> list[AnyPacket]:
        """The next packets up to one of the stream, which is the last; sound may come before it."""
        found: list[AnyPacket] = []
        for packet in self._packets:
            found.append(packet)
            if packet.stream.index == self._stream.index:
                return found
        return []

    def _from_key(self, packets: Iterator[AnyPacket], target: int) -> Iterator[AnyPacket]:
        """The packets without those before the last key frame that is shown until a time in ticks.

        All are read, as a container without an index does not say whether its clock goes on evenly. Nothing
        is left out after a packet whose time is missing or goes back: times of frames depend on those before.
        """
        held: list[AnyPacket] = []
        newest, is_known = float("-inf"), False
        try:
            for packet in packets:
                held.append(packet)
                if packet.stream.index == self._stream.index:
                    at = self._clock.time_of(packet)
                    if at is None or packet.dts is None or packet.dts <= newest or at > target:
                        break
                    newest = packet.dts
                    if packet.is_keyframe and packet.size:
                        if not is_known and not self._starts(packet):
                            break
                        held = [p for p in held if p is packet or self._outlasts(p, packet)]
                        is_known = self._sought = True
                        self._flush()
                if len(held) > _MOST_HELD:
                    break
        except REFUSALS:
            yield from held
            raise
        yield from held
        yield from packets

    def _outlasts(self, packet: AnyPacket, key: AnyPacket) -> bool:
        """Whether something other than a picture is heard or shown when a key frame is."""
        return packet.stream.index != self._stream.index and end_of(packet) > time_of(key)

    def _starts(self, packet: AnyPacket) -> bool:
        """Whether decoding can start with a packet; pictures that are renewed in parts only claim it."""
        trial = another_decoder(self._stream)
        first, fault = _decoded(trial, packet)
        frames = [*first, *_decoded(trial, _end_marker(self._info.time_base))[0]]
        return not fault and bool(frames) and frames[0].pict_type == PictureType.I

    def _flush(self) -> None:
        for decoder in (self._decoder, self._stream.codec_context):
            decoder.flush_buffers()

    def losses(self) -> Iterator[str]:
        """What is missing, known after the last frame."""
        if self._faults:
            count, first = len(self._faults), self._faults[0]
            yield f"packets that cannot be decoded, so that frames are missing: {count} ({first})"
        if self._opaque:
            yield f"frames whose transparency cannot be decoded: {self._opaque}"
        if self._stopped:
            yield f"the source cannot be read after {self._end:.2f} s: {self._stopped}"
        promised, expected = max(promised_s(self._stream), self._last), self._info.promised_frames
        if not self._sought and expected > self._decoded + self._hidden:
            yield f"the source promises {expected} frames, {self._decoded} were decoded"
        elif self._decoded and promised > self._end + _MISSING_S:
            yield f"the source promises {promised:.2f} s, it ends at {self._end:.2f} s"

    def last_step(self) -> int:
        """How long the last frame is shown in ticks, where its packet says something else; 0 for unknown.

        MP4 says how far apart packets are decoded; where none is missing, its track ends with the last frame.
        """
        stream = self._stream
        is_whole = self._info.promised_frames == self._decoded and not (self._hidden or self._faults)
        if not is_whole or stream.duration is None or "mp4" not in stream.container.format.name:
            return 0
        return max(0, (stream.start_time or 0) + stream.duration - self._clock.newest)

    def _video_packets(self) -> Iterator[AnyPacket]:
        """The stream's packets, and at the end one that makes the decoder give what it holds back.

        An empty packet on the way would do so too early; it stands for a frame that is shown for longer.
        """
        try:
            for packet in iter(self._next_packet, None):
                if packet.stream.index != self._stream.index:
                    self._hand_on(packet)
                elif packet.size:
                    self._hidden += packet.is_discard
                    self._clock.see(packet)
                    if not packet.is_discard:
                        self._last = max(self._last, float(time_of(packet)))
                    yield packet
                else:
                    self._hidden += packet.pts is not None or packet.dts is not None
        except REFUSALS as error:
            self._stopped = reason(error)
        yield _end_marker(self._info.time_base)

    def _next_packet(self) -> "AnyPacket | None":
        return self._waiting.pop() if self._waiting else next(self._packets, None)

    def _frames_of(self, packet: AnyPacket) -> list[VideoFrame]:
        frames, fault = _decoded(self._decoder, packet)
        if self._plain is not None:  # after a fault the other one waits for the next key frame
            opaque, other = _decoded(self._plain, packet)
            if fault and (opaque or self._opaque):
                self._opaque += len(opaque)
                frames, fault = opaque, other
        if fault:
            self._faults.append(fault)
        return frames

    def _end_of(self, frame: VideoFrame) -> float:
        shown, period = float((frame.duration or 0) * self._info.time_base), 1 / float(self._info.frame_rate)
        at = frame.time if frame.time is not None else (self._decoded - 1) * period
        return at + max(shown, period)


def _end_marker(time_base: Fraction) -> AnyPacket:
    """A packet that makes a decoder give what it holds back."""
    packet: AnyPacket = Packet()
    packet.time_base = time_base
    return packet


def _decoded(decoder: av.VideoCodecContext, packet: AnyPacket) -> tuple[list[VideoFrame], str]:
    """The frames that a packet gives, and what is wrong with it."""
    try:
        return decoder.decode(packet), ""
    except av.EOFError:
        return [], ""
    except REFUSALS as error:
        return [], reason(error)


class _Clock:
    """Gives frames their time stamps where the container does not.

    A frame without one is shown when the one before ends. Where the first has none, none keeps its own: they
    would not fit those before. AVI says when packets are decoded, in whole frames; frames come at that pace.
    Where times of display go back more often than those of decoding, these are taken, as FFmpeg does.
    """

    def __init__(self, info: SourceInfo, *, by_decoding: bool) -> None:
        self._time_base, self._period = info.time_base, 1 / info.frame_rate
        self._by_decoding = by_decoding
        self._next: Fraction | None = None
        self._runs: bool | None = None
        self._first: int | None = None  # when the first packet is decoded
        self._delay = 0
        self._shown, self._decoded = _Rising(), _Rising()
        self.newest = 0  # the last time that was given

    def see(self, packet: AnyPacket) -> None:
        """Take note of a packet before its frames come."""
        if self._first is None:
            self._first = packet.dts

    def time_of(self, packet: AnyPacket) -> int | None:
        """About when a packet's frame is shown, where the packet says so."""
        if not self._by_decoding:
            return packet.pts
        return None if packet.dts is None else packet.dts - self._delay

    def stamp(self, frame: VideoFrame) -> None:
        """Give the next frame its time."""
        at = frame.dts if self._by_decoding else self._believed(frame.pts, frame.dts)
        if self._runs is None:
            self._runs = at is not None
            if self._by_decoding and at is not None and self._first is not None:
                self._delay = at - self._first
        if not self._runs:
            at = None
        elif at is None and self._next is not None:
            at = round(self._next / self._time_base)
            self._next += self._period
        elif at is not None:
            at -= self._delay
            shown = frame.duration * self._time_base if frame.duration else self._period
            self._next = at * self._time_base + shown
        frame.pts, frame.time_base = at, self._time_base
        self.newest = max(self.newest, at or 0)

    def _believed(self, shown: int | None, decoded: int | None) -> int | None:
        """When a frame is shown: as its packet says, or else when that was decoded."""
        self._shown.see(shown)
        self._decoded.see(decoded)
        if shown is None or decoded is None or self._shown.faults <= self._decoded.faults:
            return shown
        return decoded


class _Rising:
    """Counts how often times do not rise."""

    def __init__(self) -> None:
        self.faults = 0
        self._last: int | None = None

    def see(self, at: int | None) -> None:
        """Take the next time, if there is one."""
        if at is not None:
            self.faults += self._last is not None and at <= self._last
            self._last = at
