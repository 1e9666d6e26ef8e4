"""Interlaced frames to whole ones, by FFmpeg's ``bwdif`` filter through PyAV."""

from collections.abc import Iterable, Iterator
from itertools import groupby

import av
from av.video.frame import VideoFrame

#: Rows and columns that the filter needs.
_SMALLEST = 3


def deinterlaced(frames: Iterable[VideoFrame], stream: av.VideoStream) -> Iterator[VideoFrame]:
    """Yield one whole frame for each frame, with its time stamp; progressive frames stay as they are."""
    for _, alike in groupby(frames, key=lambda frame: (frame.width, frame.height, frame.format.name)):
        yield from _of_one_size(alike, stream)  # given another size the filter would scale to the first one


def _of_one_size(frames: Iterable[VideoFrame], stream: av.VideoStream) -> Iterator[VideoFrame]:
    graph: av.filter.Graph | None = None
    waiting = 0
    for frame in frames:
        if min(frame.width, frame.height) < _SMALLEST:
            yield frame
            continue
        if graph is None:
            graph = _bwdif(frame, stream)
        graph.push(frame)
        waiting += 1
        if waiting > 1:  # the filter looks one frame ahead; PyAV loses a Ctrl-C where it has to refuse
            yield _pulled(graph, stream)
            waiting -= 1
    if graph is not None:
        graph.push(None)
        for _ in range(waiting):
            yield _pulled(graph, stream)


def _bwdif(frame: VideoFrame, stream: av.VideoStream) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=stream.time_base
    )
    filter_ = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    sink = graph.add("buffersink")
    source.link_to(filter_)
    filter_.link_to(sink)
    graph.configure()
    return graph


def _pulled(graph: av.filter.Graph, stream: av.VideoStream) -> VideoFrame:
    frame = graph.pull()
    if not isinstance(frame, VideoFrame):
        raise TypeError("a video filter gives video frames")
    if frame.time_base and stream.time_base:  # the filter counts in half ticks
        ticks = frame.time_base / stream.time_base
        frame.pts = None if frame.pts is None else round(frame.pts * ticks)
        frame.duration = round(frame.duration * ticks)
        frame.time_base = stream.time_base
    return frame
