"""Text subtitles of one codec as those of another, for containers that hold no others.

FFmpeg's decoders of text all give lines of ASS with their styles, and its encoders all take them.
"""

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream

if TYPE_CHECKING:
    from av.packet import Packet

#: The kind of text of each container.
_KINDS = {"matroska": "ass", "mp4": "mov_text"}


class TextCopy:
    """A stream of a container's own kind of text, for the lines of a stream of another kind.

    Args:
        out: The container.
        source: The stream of the lines.

    Attributes:
        stream: The new stream.

    Raises:
        ValueError: The source is no text, or the container has no kind of its own.
        av.FFmpegError: The source's description is damaged.
    """

    def __init__(self, out: av.container.OutputContainer, source: SubtitleStream) -> None:
        kind = _KINDS.get(out.format.name)
        if not source.codec_context.codec.text_sub or kind is None:
            raise ValueError(f"{out.format.name} cannot hold it")
        self._decoder = source.codec_context
        self._decoder.open(strict=False)
        self.stream: Stream = out.add_stream(kind)
        encoder = self.stream.codec_context
        if not isinstance(encoder, SubtitleCodecContext):
            raise TypeError("subtitles have a context of their own")
        encoder.subtitle_header = self._decoder.subtitle_header
        encoder.time_base = source.time_base or Fraction(1, av.time_base)
        self._encoder = encoder

    def taken(self, packet: "Packet[Any]") -> "Packet[Any] | None":
        """A line as this stream holds it; None for one without text, which stands for a gap.

        Raises:
            av.FFmpegError: The packet is damaged.
        """
        lines = self._decoder.decode2(packet)
        if lines is None or not len(lines):
            return None
        made = self._encoder.encode_subtitle(lines)
        made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration or 0
        made.time_base, made.stream = packet.time_base, self.stream
        return made
