"""Which of a container's video streams is the video, and what decodes it."""

import av
from av.stream import Disposition

from mptvc.errors import VideoError
from mptvc.video.description import Warnings

#: Pictures that stand for a film or for sound: covers, and previews at several times.
PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
#: Decoders that show which pixels are transparent, of codecs whose usual ones show what these hide.
_SHOWING_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def chosen_stream(
    name: str, container: av.container.InputContainer, wanted: int | None, warnings: Warnings
) -> av.VideoStream:
    """The stream of a number, or the one that FFmpeg's program takes: the default one, then the largest.

    A cover picture is taken only by its number. A warning names the stream where there are several.

    Raises:
        VideoError: There is none, or a warning refuses to choose.
        ValueError: The number is that of no video stream.
    """
    found = container.streams.video
    listed = ", ".join(_described(stream) for stream in found)
    if wanted is not None:
        for stream in found:
            if stream.index == wanted:
                return stream
        raise ValueError(f"{name}: stream={wanted} is no video stream; there are {listed or 'none'}")
    films = [stream for stream in found if not stream.disposition & PICTURES]
    if not films:
        cover = f" but a picture; stream={found[0].index} takes it" if found else ""
        raise VideoError(f"{name}: no video stream{cover}")
    known = [stream for stream in films if _is_known(stream)] or films
    best = max(known, key=lambda stream: (bool(stream.disposition & Disposition.default), _area(stream)))
    if len(films) > 1:
        warnings.add(f"stream {best.index} is taken of {listed}; stream={best.index} says so")
    return best


def decoder_of(stream: av.VideoStream) -> av.VideoCodecContext:
    """What decodes a stream, with its transparency."""
    context = stream.codec_context
    name = _SHOWING_ALPHA.get(context.codec.canonical_name)
    if name is None or not _has_hidden_alpha(stream):
        return context
    return _created(name, context)


def another_decoder(stream: av.VideoStream) -> av.VideoCodecContext:
    """What decodes a stream too, without its transparency, from where it is given packets."""
    context = stream.codec_context
    decoder = _created(context.codec.name, context)
    decoder.width, decoder.height, decoder.codec_tag = context.width, context.height, context.codec_tag
    if context.pix_fmt is not None:
        decoder.pix_fmt = context.pix_fmt
    return decoder


def _created(name: str, like: av.VideoCodecContext) -> av.VideoCodecContext:
    decoder = av.CodecContext.create(name, "r")
    if not isinstance(decoder, av.VideoCodecContext):
        raise TypeError("a video codec has a video context")
    decoder.extradata, decoder.thread_count = like.extradata, 1
    return decoder


def _has_hidden_alpha(stream: av.VideoStream) -> bool:
    return any(key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items())


def _is_known(stream: av.VideoStream) -> bool:
    """Whether FFmpeg knows how to decode a stream, and its size."""
    return stream.codec_context is not None and stream.codec_context.format is not None


def _area(stream: av.VideoStream) -> int:
    return stream.codec_context.width * stream.codec_context.height if stream.codec_context else 0


def _described(stream: av.VideoStream) -> str:
    """Number, codec and size of a stream."""
    context = stream.codec_context
    what = f"{context.name} {context.width}x{context.height}" if context else "unknown"
    return f"{stream.index} ({what})"
