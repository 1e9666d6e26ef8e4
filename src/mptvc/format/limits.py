"""How large a video a reader accepts unless a caller says otherwise."""

from dataclasses import dataclass

from mptvc.errors import LimitExceededError


@dataclass(frozen=True)
class Limits:
    """What a reader accepts; larger files need the caller's word.

    Attributes:
        max_pixels: Largest width times height.
        max_frames: Largest number of frames.
    """

    max_pixels: int = 2**27
    max_frames: int = 10_000_000

    def check(self, pixels: int, frames: int) -> None:
        """Refuse a video that is too large.

        Raises:
            LimitExceededError: It exceeds a limit.
        """
        if pixels > self.max_pixels:
            raise LimitExceededError(
                f"{pixels} pixels a frame, the limit is {self.max_pixels}: raise max_pixels="
            )
        if frames > self.max_frames:
            raise LimitExceededError(f"{frames} frames, the limit is {self.max_frames}: raise max_frames=")


DEFAULT_LIMITS = Limits()
