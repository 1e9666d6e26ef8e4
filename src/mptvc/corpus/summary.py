"""What became of a corpus, in numbers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Summary:
    """A corpus in numbers.

    Attributes:
        videos: Rows without an error: videos, or parts that kept their keys.
        hours: Of these.
        frames: Of these.
        size_bytes: Bytes of their data.
        bpp: Bits per source pixel.
        failed: Rows with an error.
        failures: Number of failures of each kind.
        done_now: Videos that this run did; the others were done before.
        hours_now: Of these.
        seconds: Wall time of this run.
    """

    videos: int
    hours: float
    frames: int
    size_bytes: int
    bpp: float
    failed: int
    failures: dict[str, int]
    done_now: int
    hours_now: float
    seconds: float

    @classmethod
    def of(cls, rows: Iterable[dict[str, Any]], new: Iterable[dict[str, Any]], seconds: float) -> Self:
        """Sum up rows; ``new`` are those of this run, which took so many seconds."""
        rows = list(rows)
        good = [row for row in rows if not row["error"]]
        bad = Counter(row["error_kind"] for row in rows if row["error"])
        now = [row for row in new if row.get("frames")]
        pixels = sum(row["width"] * row["height"] * row["frames"] for row in good)
        size = sum(row["size_bytes"] for row in good)
        return cls(
            videos=len(good),
            hours=_hours(good),
            frames=sum(row["frames"] for row in good),
            size_bytes=size,
            bpp=8 * size / pixels if pixels else 0.0,
            failed=bad.total(),
            failures=dict(sorted(bad.items())),
            done_now=len(now),
            hours_now=_hours(now),
            seconds=round(seconds, 3),
        )


def _hours(rows: Sequence[dict[str, Any]]) -> float:
    return float(sum(row["end_s"] - row["start_s"] for row in rows)) / 3600
