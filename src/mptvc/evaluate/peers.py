"""Other codecs on the same frames, through PyAV: the points of their rate-distortion curves.

An encoder gets the frames in 4:2:0, which is what its users give it, and what it decodes to is compared
in RGB at source size, as mptvc's output is. Its rate counts the packets and the stream header, no container.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import numpy as np

from mptvc.errors import VideoError
from mptvc.evaluate.metrics import Quality, QualityMeter
from mptvc.format.header import Colour
from mptvc.video.colour import LIMITED, from_rgb, to_rgb
from mptvc.video.ffmpeg import quiet_encoders, refusals, same_scheduling

#: What an encoder is given: BT.709 in limited range, as most video is.
_COLOUR = Colour(primaries=1, transfer=1, matrix=1, range=LIMITED)
_PIX_FMT = "yuv420p"


@dataclass(frozen=True)
class Peer:
    """An encoder and how it is run.

    Attributes:
        name: What users call it.
        encoder: FFmpeg's name of the encoder.
        decoder: FFmpeg's name of a decoder.
        qualities: Values of ``crf``, from fine to coarse.
        options: Options of the encoder, the preset first.
    """

    name: str
    encoder: str
    decoder: str
    qualities: tuple[int, ...]
    options: dict[str, str]

    def describe(self) -> str:
        """Name and settings in one line."""
        return f"{self.name} ({', '.join(f'{k} {v}' for k, v in self.options.items())})"


PEERS = {
    peer.name: peer
    for peer in (
        Peer("x264", "libx264", "h264", (7, 12, 17, 22, 27, 32, 37, 42, 47, 51), {"preset": "medium"}),
        Peer(
            "x265",
            "libx265",
            "hevc",
            (7, 12, 17, 22, 27, 32, 37, 42, 47, 51),
            {"preset": "medium", "x265-params": "log-level=none"},
        ),
        Peer(
            "svtav1",
            "libsvtav1",
            "libdav1d",
            (5, 12, 20, 28, 36, 44, 52, 58, 63),
            {"preset": "6", "svtav1-params": "lp=2"},
        ),
        Peer("vp9", "libvpx-vp9", "vp9", (5, 12, 20, 28, 36, 44, 52, 58, 63), {"cpu-used": "4", "b": "0"}),
    )
}


def chosen_peers(names: Iterable[str]) -> tuple[str, ...]:
    """The names of peers, each once, in the order in which they are given; space around them does not count.

    Raises:
        ValueError: A name is unknown.
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in names))
    if unknown := [name for name in chosen if name not in PEERS]:
        raise ValueError(f"{unknown[0] or 'an empty name'} is not one of {', '.join(PEERS)}")
    return chosen


#: Gives the frames uint8 ``[H, W, 3]`` of a video from its start, each time it is called.
Frames = Callable[[], Iterable[np.ndarray]]


def encode_with(peer: Peer, quality: int, frames: Frames, rate: Fraction, *, ssim: bool = False) -> Quality:
    """Encode and decode a video at one quality, and compare.

    Args:
        peer: The encoder.
        quality: Its ``crf``.
        frames: The video, read once to encode it and once to compare.
        rate: Frames a second.
        ssim: Measure SSIM and MS-SSIM too.

    Raises:
        VideoError: FFmpeg lacks the encoder, or it refuses the frames.
    """
    meter = QualityMeter(ssim)
    with refusals(f"{peer.name} cannot code these frames"):
        packets, header = encode_packets(peer, quality, frames(), rate)
        for reference, decoded in zip(frames(), decode_packets(peer, packets, header), strict=True):
            height, width, _ = reference.shape
            meter.add(reference[None], decoded[None, :height, :width])
    return meter.quality(f"crf {quality}", len(header) + sum(len(packet) for packet in packets))


def encode_packets(
    peer: Peer, quality: int, frames: Iterable[np.ndarray], rate: Fraction
) -> tuple[list[bytes], bytes]:
    """Packets and stream header of frames uint8 ``[H, W, 3]``."""
    quiet_encoders()
    context: av.VideoCodecContext | None = None
    packets: list[bytes] = []
    for index, pixels in enumerate(frames):
        height, width, _ = pixels.shape
        even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if context is None:
            context = _encoder(peer, quality, even, rate)
        frame = from_rgb(even, _PIX_FMT, _COLOUR)
        frame.pts, frame.time_base = index, 1 / rate
        packets += [bytes(packet) for packet in context.encode(frame)]
    if context is None:
        raise ValueError("there are none")
    packets += [bytes(packet) for packet in context.encode(None)]
    return packets, bytes(context.extradata or b"")


def _encoder(peer: Peer, quality: int, pixels: np.ndarray, rate: Fraction) -> av.VideoCodecContext:
    context = _context(peer.encoder, "w")
    context.height, context.width, _ = pixels.shape
    context.pix_fmt, context.framerate, context.time_base = _PIX_FMT, rate, 1 / rate
    context.options = {**peer.options, "crf": str(quality)}
    with same_scheduling():
        context.open()
    return context


def decode_packets(peer: Peer, packets: list[bytes], header: bytes) -> Iterator[np.ndarray]:
    """Frames uint8 ``[H, W, 3]`` of packets; sides are even."""
    context = _context(peer.decoder, "r")
    if header:
        context.extradata = header
    for data in [*packets, None]:
        for frame in context.decode(None if data is None else av.Packet(data)):
            yield to_rgb(frame, _COLOUR)[0]


def _context(name: str, mode: Literal["r", "w"]) -> av.VideoCodecContext:
    context = av.CodecContext.create(name, mode)
    if not isinstance(context, av.VideoCodecContext):
        raise VideoError(f"{name} is no video codec")
    return context
