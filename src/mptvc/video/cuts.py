"""Shot cuts, found by FFmpeg's ``scdet`` filter through PyAV."""

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from numbers import Real

import av
import numpy as np
from av.video.frame import VideoFrame

from mptvc.format.frames import as_frames

#: Score of ``scdet``, 0 to 100, from which a frame starts a new shot.
SHOT_THRESHOLD = 10.0


def detect_shots(frames: np.ndarray, threshold: float = SHOT_THRESHOLD) -> tuple[int, ...]:
    """Lengths of the shots in frames uint8 ``[T, H, W, 3]``, found by FFmpeg's ``scdet``.

    Raises:
        ValueError: The threshold is not between 0 and 100, or the frames are none.

    Example:
        >>> import mptvc, numpy as np
        >>> frames = np.zeros((8, 48, 64, 3), dtype=np.uint8)
        >>> frames[5:] = 200
        >>> mptvc.detect_shots(frames)
        (5, 3)
    """
    checked_threshold(threshold, "threshold")
    frames = as_frames(frames)
    inputs = (VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames)
    cuts = [i for i, (_, is_cut) in enumerate(pair_with_cuts(inputs, None, threshold)) if is_cut]
    borders = [0, *(cut for cut in cuts if cut), len(frames)]
    return tuple(b - a for a, b in pairwise(borders))


def checked_threshold(threshold: float | None, name: str = "shot_threshold") -> float | None:
    """The threshold, or None for no cuts; an error calls it by the name of the argument that it was.

    Raises:
        ValueError: It is no number between 0 and 100.
    """
    if threshold is not None and not (isinstance(threshold, Real) and 0 <= threshold <= 100):
        raise ValueError(f"{name}= is 0 to 100, found {threshold}")
    return threshold


def pair_with_cuts(
    frames: Iterable[VideoFrame], stream: av.VideoStream | None, threshold: float | None
) -> Iterator[tuple[VideoFrame, bool]]:
    """Pair each frame with whether ``scdet`` calls it the first of a shot."""
    detector = CutDetector(threshold, None if stream is None else stream.time_base)
    for frame in frames:
        yield from detector.push(frame)
    yield from detector.finish()


class CutDetector:
    """Finds cuts in frames as they come.

    Args:
        threshold: Score of ``scdet`` from which a frame starts a shot; None for no cuts.
        time_base: Unit of the frames' time stamps in seconds.
    """

    def __init__(self, threshold: float | None, time_base: Fraction | None = None) -> None:
        self._threshold, self._time_base = threshold, time_base
        self._graph: av.filter.Graph | None = None
        self._waiting: deque[VideoFrame] = deque()

    def push(self, frame: VideoFrame) -> list[tuple[VideoFrame, bool]]:
        """Take a frame; return those that are decided, each with whether it starts a shot."""
        if self._threshold is None:
            return [(frame, False)]
        if self._graph is None:
            self._graph = _scdet(frame, self._time_base, self._threshold)
        self._waiting.append(frame)
        self._graph.push(frame)
        return self._decided(self._graph)

    def finish(self) -> list[tuple[VideoFrame, bool]]:
        """Return the frames that are left."""
        if self._graph is None:
            return []
        self._graph.push(None)
        return [*self._decided(self._graph), *((frame, False) for frame in self._waiting)]

    def _decided(self, graph: av.filter.Graph) -> list[tuple[VideoFrame, bool]]:
        decided: list[tuple[VideoFrame, bool]] = []
        while self._waiting and (is_cut := _next_result(graph)) is not None:
            decided.append((self._waiting.popleft(), is_cut))
        return decided


def _scdet(frame: VideoFrame, time_base: Fraction | None, threshold: float) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=time_base or Fraction(1, 25),
    )
    detector = graph.add("scdet", f"threshold={threshold}")
    sink = graph.add("buffersink")
    source.link_to(detector)
    detector.link_to(sink)
    graph.configure()
    return graph


def _next_result(graph: av.filter.Graph) -> bool | None:
    """Whether the next frame starts a shot; None while the filter wants more frames.

    Asked only while a frame is waiting: PyAV drops a Ctrl-C that comes while it raises "try again".
    """
    try:
        return "lavfi.scd.time" in graph.pull().metadata
    except (av.BlockingIOError, av.EOFError):
        return None
