"""When frames are shown: one time line for readers, writers and reports."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptvc.format.header import VideoInfo
from mptvc.format.timeline import Timeline

EVEN = Timeline(75, Fraction(25), Fraction(1, 25), ())
UNEVEN = Timeline(5, Fraction(10), Fraction(1, 1000), (0, 40, 0, 400, 60))


def test_times_at_a_constant_rate() -> None:
    assert [EVEN[0], EVEN[1], EVEN[74], EVEN.end] == [0, Fraction(1, 25), Fraction(74, 25), 3]
    assert len(EVEN) == 75


def test_times_of_uneven_frames_are_their_time_stamps() -> None:
    assert [float(time) for time in UNEVEN] == [0, 0.04, 0.04, 0.44, 0.5]
    assert UNEVEN.end == Fraction(6, 10)


@pytest.mark.parametrize(
    ("time", "frame"),
    [(0, 0), (0.039, 0), (0.04, 2), (Fraction(1, 25), 2), (0.43, 2), (0.44, 3), (0.5, 4), (0.599, 4)],
)
def test_the_frame_that_is_shown_at_a_time(time: float | Fraction, frame: int) -> None:
    assert UNEVEN.at(time) == frame


@pytest.mark.parametrize("time", [-0.001, 0.601, float("inf"), float("nan")])
def test_no_frame_is_shown_outside_the_video(time: float) -> None:
    with pytest.raises(IndexError, match=r"the video ends at 0\.600 s"):
        UNEVEN.at(time)


@pytest.mark.parametrize("frame", [-1, 5])
def test_a_frame_that_does_not_exist_has_no_time(frame: int) -> None:
    with pytest.raises(IndexError, match="of 5"):
        UNEVEN[frame]


@pytest.mark.parametrize(
    ("time", "first"), [(0, 0), (0.01, 1), (0.04, 1), (0.041, 3), (0.5, 4), (0.51, 5), (float("inf"), 5)]
)
def test_the_first_frame_from_a_time_on(time: float, first: int) -> None:
    assert UNEVEN.from_time(time) == first


@given(st.fractions(1, 240), st.integers(1, 500))
def test_every_frame_is_found_by_its_own_time(rate: Fraction, count: int) -> None:
    """By the exact time and by the float nearest to it."""
    times = Timeline(count, rate, 1 / rate, ())
    for frame in {0, count // 3, count - 1}:
        for time in (times[frame], float(times[frame])):
            assert times.at(time) == times.from_time(float(time)) == frame


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20))
def test_uneven_times_never_fall(steps: list[int]) -> None:
    times = VideoInfo(8, 8, len(steps) + 1, Fraction(25), Fraction(1, 90000), (0, *steps)).times
    assert all(a <= b for a, b in pairwise(times))
    assert times[len(steps)] == Fraction(sum(steps), 90000)
