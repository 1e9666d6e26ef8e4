"""Quality and rate as the project reports them.

PSNR is taken at source size against the source's own pixels, peak 255; its mean over frames is that
of the squared errors of a whole clip. Bits per pixel count every byte of a prefix over the source's
pixels.
"""

import math

import numpy as np

#: BT.709 luma of full-range RGB.
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


class PsnrMeter:
    """Sums squared errors of RGB and of BT.709 luma over frames."""

    def __init__(self) -> None:
        self._errors = np.zeros(2)
        self._counts = np.zeros(2)

    def add(self, reference: np.ndarray, other: np.ndarray) -> None:
        """Compare frames uint8 ``[T, H, W, 3]`` of equal shape.

        Raises:
            ValueError: The shapes differ.
        """
        if reference.shape != other.shape:
            raise ValueError(f"shapes differ: {reference.shape} and {other.shape}")
        for a, b in zip(reference, other, strict=True):
            difference = a.astype(np.float32) - b
            luma = difference @ _LUMA
            self._errors += (
                np.square(difference).sum(dtype=np.float64),
                np.square(luma).sum(dtype=np.float64),
            )
            self._counts += difference.size, luma.size

    @property
    def rgb(self) -> float:
        """PSNR over the three colours in dB, infinite for equal frames."""
        return _psnr(self._errors[0], self._counts[0])

    @property
    def luma(self) -> float:
        """PSNR of BT.709 luma in dB, infinite for equal frames."""
        return _psnr(self._errors[1], self._counts[1])


def _psnr(error: float, count: float) -> float:
    if count == 0:
        raise ValueError("no frames were compared")
    return math.inf if error == 0 else 10 * math.log10(255**2 * count / error)


def bits_per_pixel(size_bytes: int, width: int, height: int, frames: int) -> float:
    """Bits of a file or prefix over the pixels of the source."""
    return 8 * size_bytes / (width * height * frames)
