"""Packets of a clip with a closed loop to its pictures, slice by slice, level by level."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from mptvc.codec.coder import Damaged
from mptvc.codec.settings import computing
from mptvc.codec.slices import ClipLoop, CodedSlice
from mptvc.format.slices import SlicePacket

#: Levels of a slice that could be decoded, and which of the others could not, and why.
_Decoded = tuple[list[CodedSlice], tuple[int, ValueError] | None]


class LoopDecoder:
    """Decodes one clip.

    Args:
        loop: The clip's state.
        packets: Of every level.
        counts: Frames of each slice.
        overlaps: Decode the finest level of a slice beside coarser ones of the next, in a thread of its own.
    """

    def __init__(
        self,
        loop: ClipLoop,
        packets: Sequence[Sequence[SlicePacket]],
        counts: Sequence[int],
        *,
        overlaps: bool,
    ) -> None:
        self._loop, self._packets, self._counts = loop, packets, counts
        self._finest, self._beside = len(packets) - 1, 1 + overlaps

    def slices(self, damaged: Damaged) -> Iterator[list[CodedSlice]]:
        """Every level of each slice that can be decoded; a level that cannot is not tried again.

        Args:
            damaged: Told of a level that cannot, and why, before its slice is given.
        """
        levels = self._finest + 1
        with ExitStack() as stack:
            begin = stack.enter_context(ThreadPoolExecutor(1)).submit if self._beside > 1 else _Later
            waiting = begin(self._decoded, 0, range(min(levels, self._finest)), [])
            for index in range(len(self._counts)):
                found, damage = waiting.result()
                levels = damage[0] if damage else levels
                if index + 1 < len(self._counts):
                    waiting = begin(self._decoded, index + 1, range(min(levels, self._finest)), [])
                if not damage:
                    found, damage = self._decoded(index, range(self._finest, levels), found)
                if damage:
                    levels = damage[0]
                    damaged(*damage)
                if not found:
                    return
                yield found
                found = []  # nothing is kept while the next one is decoded

    def _decoded(self, index: int, levels: range, coarser: Sequence[CodedSlice]) -> _Decoded:
        """Some levels of a slice after coarser ones, which are among those returned."""
        found = list(coarser)
        with computing(by_kernels=True, beside=self._beside):
            for level in levels:
                coded, before = self._packets[level][index], found[-1].pictures if found else []
                try:
                    pictures = self._loop.decode(
                        level, coded.packet, self._counts[index], before, coded.kind, coded.gain
                    )
                except ValueError as error:
                    return found, (level, error)
                found.append(CodedSlice(coded.packet, pictures, coded.gain, coded.kind))
        return found, None


class _Later:
    """A call that is made when its result is wanted."""

    def __init__(self, work: Callable[..., _Decoded], *args: object) -> None:
        self.result = partial(work, *args)
