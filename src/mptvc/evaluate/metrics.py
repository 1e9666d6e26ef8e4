"""Quality and rate as the project reports them.

PSNR is taken at source size against the source's own pixels, peak 255; that of a clip is the PSNR of the mean
squared error of all its frames. Bits per pixel are over the source's pixels; who measures a version says
which of its bytes count.
"""

import math
from dataclasses import dataclass

import numpy as np

#: BT.709 luma of full-range RGB.
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


@dataclass(frozen=True)
class Quality:
    """Rate and quality of one version of a video.

    Attributes:
        name: Which version.
        size_bytes: Its bytes that count: of a prefix of an ``.mpt`` file all but sound and subtitles, of
            another video file all, of another codec those of packets and stream header.
        bpp: Bits of these bytes per source pixel.
        psnr_rgb: PSNR over the three colours in dB, infinite for equal frames.
        psnr_y: PSNR of BT.709 luma in dB, infinite for equal frames.
        frames_rgb: ``psnr_rgb`` of every frame; none in a mean over clips.
        frames_y: ``psnr_y`` of every frame; none in a mean over clips.
        kinds: With prediction, what every frame is at the last level: ``opening key``, ``key`` or
            ``between``.
        ssim: SSIM of BT.709 luma, mean over frames; None where it was not asked for.
        ms_ssim: MS-SSIM of BT.709 luma, mean over frames; None where it was not asked for or a side is under
            161 pixels.
    """

    name: str
    size_bytes: int
    bpp: float
    psnr_rgb: float
    psnr_y: float
    frames_rgb: tuple[float, ...]
    frames_y: tuple[float, ...]
    ssim: float | None = None
    ms_ssim: float | None = None
    kinds: tuple[str, ...] = ()


class QualityMeter:
    """Compares frames with a reference, a few at a time.

    Args:
        ssim: Measure SSIM and MS-SSIM too, which needs the extra ``eval``.
    """

    def __init__(self, ssim: bool = False) -> None:
        self._with_ssim = ssim
        self._pixels = 0
        self._errors: list[tuple[float, float]] = []  # mean squared, of each frame: RGB, luma
        self._ssim: list[tuple[float, float | None]] = []

    def add(self, reference: np.ndarray, other: np.ndarray) -> None:
        """Compare frames uint8 ``[T, H, W, 3]`` with others of equal shape.

        Raises:
            ValueError: The shapes differ.
            ModuleNotFoundError: SSIM is asked for without the extra.
        """
        if reference.shape != other.shape:
            raise ValueError(f"shapes differ: {reference.shape} and {other.shape}")
        for a, b in zip(reference, other, strict=True):
            difference = a.astype(np.float32) - b
            errors = [np.square(x).mean(dtype=np.float64) for x in (difference, difference @ _LUMA)]
            self._errors.append((float(errors[0]), float(errors[1])))
            self._pixels += a.shape[0] * a.shape[1]
            if self._with_ssim:
                self._ssim.append(_similarity(a @ _LUMA, b @ _LUMA))

    @property
    def rgb(self) -> float:
        """PSNR over the three colours in dB, infinite for equal frames.

        Raises:
            ValueError: No frames were compared.
        """
        return self._psnr(0)

    @property
    def luma(self) -> float:
        """PSNR of BT.709 luma in dB, infinite for equal frames.

        Raises:
            ValueError: No frames were compared.
        """
        return self._psnr(1)

    def quality(self, name: str, size_bytes: int) -> Quality:
        """Everything measured, for a version of which this many bytes count.

        Raises:
            ValueError: No frames were compared.
        """
        rgb, luma = self.rgb, self.luma
        ssim, ms_ssim = zip(*self._ssim, strict=True) if self._ssim else ((), ())
        frames_rgb, frames_y = zip(*((_psnr(a), _psnr(b)) for a, b in self._errors), strict=True)
        return Quality(
            name=name,
            size_bytes=size_bytes,
            bpp=8 * size_bytes / self._pixels,
            psnr_rgb=rgb,
            psnr_y=luma,
            frames_rgb=frames_rgb,
            frames_y=frames_y,
            ssim=float(np.mean(ssim)) if ssim else None,
            ms_ssim=None if None in ms_ssim or not ms_ssim else float(np.mean(ms_ssim)),
        )

    def _psnr(self, kind: int) -> float:
        if not self._errors:
            raise ValueError("no frames were compared")
        return _psnr(math.fsum(errors[kind] for errors in self._errors) / len(self._errors))


def _psnr(error: float) -> float:
    """PSNR of a mean squared error, peak 255."""
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _similarity(a: np.ndarray, b: np.ndarray) -> tuple[float, float | None]:
    """SSIM and MS-SSIM of two pictures ``[H, W]``, peak 255."""
    import torch
    from pytorch_msssim import ms_ssim, ssim

    x, y = (torch.from_numpy(p)[None, None] for p in (a, b))
    smallest = 160  # five scales of a window of 11 need more
    many = float(ms_ssim(x, y)) if min(a.shape) > smallest else None
    return float(ssim(x, y)), many
