"""What became of a corpus, in numbers."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Summary:
    """A corpus in numbers.

    Attributes:
        videos: Rows without an error: videos, or parts that kept their keys.
        hours: Of these.
        frames: Of these.
        size_bytes: Bytes of their data: of tokens as integers, or of files.
        bpp: Bits of these per source pixel.
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
    def of(cls, rows: Iterable[tuple[dict[str, Any], bool]], seconds: float) -> Self:
        """Sum up rows, each with whether it is of this run, which took so many seconds."""
        bad: Counter[str] = Counter()
        count: Counter[str] = Counter()
        length_s = new_s = 0.0
        for row, is_new in rows:
            if row["error"]:
                bad[row["error_kind"]] += 1
                continue
            span = row["end_s"] - row["start_s"]
            count["videos"] += 1
            count["frames"] += row["frames"]
            count["bytes"] += row["size_bytes"]
            count["pixels"] += row["width"] * row["height"] * row["frames"]
            length_s += span
            count["new"] += is_new
            new_s += span * is_new
        return cls(
            videos=count["videos"],
            hours=length_s / 3600,
            frames=count["frames"],
            size_bytes=count["bytes"],
            bpp=8 * count["bytes"] / count["pixels"] if count["pixels"] else 0.0,
            failed=bad.total(),
            failures=dict(sorted(bad.items())),
            done_now=count["new"],
            hours_now=new_s / 3600,
            seconds=round(seconds, 3),
        )
