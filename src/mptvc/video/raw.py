"""Raw video, as test sequences are published: frames without a word about them."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path


@dataclass(frozen=True)
class RawVideo:
    """A file of raw planar 4:2:0 frames, of which nothing is known but what is said here.

    Attributes:
        path: The file.
        width: Pixels.
        height: Pixels.
        frame_rate: Frames a second.
        bits: Bits of a sample, 8 or 10; more than 8 are two bytes each, little-endian.
    """

    path: Path
    width: int
    height: int
    frame_rate: Fraction
    bits: int = 8

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)

    @property
    def options(self) -> dict[str, str]:
        """What FFmpeg needs to be told."""
        return {
            "video_size": f"{self.width}x{self.height}",
            "framerate": str(self.frame_rate),
            "pixel_format": "yuv420p" if self.bits == 8 else f"yuv420p{self.bits}le",
        }

    def left_over(self) -> int:
        """Bytes after the last whole frame."""
        chroma = -(-self.width // 2) * -(-self.height // 2)
        samples = self.width * self.height + 2 * chroma
        return self.path.stat().st_size % (samples * (1 if self.bits == 8 else 2))
