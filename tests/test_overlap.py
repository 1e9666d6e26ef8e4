"""Levels that are coded at the same time: in the right order, whatever fails, to the same bytes."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from patterns import moving

from mptvc.codec.codec import Codec
from mptvc.codec.overlap import Levels
from mptvc.codec.rate import DEFAULT_RATE, Rate
from mptvc.codec.stages import observed

CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_level_follows_the_coarser_one_and_that_of_the_job_before() -> None:
    begun: list[tuple[int, int]] = []
    with Levels[int](3, CPU, 100) as levels:
        assert levels.overlap

        def job(index: int, level: int, coarser: int | None) -> int:
            assert coarser == (None if level == 0 else 10 * index + level - 1)
            begun.append((index, level))
            time.sleep(0.01)
            return 10 * index + level

        def numbered(index: int) -> list[int]:
            return [f.result() for f in levels.submit(lambda level, coarser: job(index, level, coarser))]

        waiting = [levels.submit(lambda level, coarser, i=i: job(i, level, coarser)) for i in range(4)]
        assert numbered(4) == [40, 41, 42]
        assert [[f.result() for f in done] for done in waiting] == [
            [10 * i + k for k in range(3)] for i in range(4)
        ]
    for level in range(3):
        assert [i for i, k in begun if k == level] == list(range(5))
    assert begun.index((1, 0)) < begun.index((0, 2)), "nothing overlapped"


@pytest.mark.usefixtures("two_threads")
def test_what_a_level_raises_all_finer_ones_raise() -> None:
    def fails(level: int, _coarser: int | None) -> int:
        if level == 1:
            raise ValueError("no")
        return level

    for device_pixels in (100, 2**24):
        with Levels[int](3, CPU, device_pixels) as levels:
            coarsest, *finer = levels.submit(fails)
            assert coarsest.result() == 0
            for level in finer:
                with pytest.raises(ValueError, match="no"):
                    level.result()


@pytest.mark.usefixtures("two_threads")
def test_large_pictures_observed_stages_and_one_thread_do_not_overlap() -> None:
    assert Levels[int](3, CPU, 100).overlap
    assert not Levels[int](3, CPU, 2**24).overlap
    assert not Levels[int](1, CPU, 100).overlap
    with observed(lambda _stage, work, *args, **kwargs: work(*args, **kwargs)):
        assert not Levels[int](3, CPU, 100).overlap
    torch.set_num_threads(1)
    assert not Levels[int](3, CPU, 100).overlap


@pytest.mark.parametrize("rate", [DEFAULT_RATE, Rate(bpp=(0.1, 0.4, 1.5))], ids=["quality", "bits"])
@pytest.mark.usefixtures("two_threads")
def test_bytes_and_frames_do_not_depend_on_threads(loop_codec: Codec, rate: Rate) -> None:
    frames, shots = moving(8, 32, 48), (5, 3)
    made, shown = [], []
    for threads in (2, 1):
        torch.set_num_threads(threads)
        made.append(loop_codec.compress(frames, shots=shots, rate=rate))
        shown.append(loop_codec.decompress(made[-1]).frames)
        assert torch.get_num_threads() == threads
    assert made[0] == made[1]
    assert np.array_equal(*shown)


@pytest.mark.usefixtures("two_threads")
def test_no_thread_is_left(loop_codec: Codec) -> None:
    before = threading.active_count()
    data = loop_codec.compress(moving(9, 48, 64))
    pieces = loop_codec.decompress(data)
    assert pieces.frames.shape[0] == 9
    assert threading.active_count() == before
    assert torch.get_num_threads() == 2
