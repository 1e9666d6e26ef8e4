"""What a gain is: how much finer than in training a level's latents are quantized, in 24ths of an octave.

The encoder multiplies latents by 2^(gain/24) before it rounds them, the decoder divides by the same. Every
section has its own, so the bits of every clip can be chosen while a video passes. Pure arithmetic.
"""

#: Gains in an octave.
GAIN_OCTAVE = 24
#: Largest absolute gain. Training draws less; a page of text needs the rest for a low rate.
MAX_GAIN = 48
#: Decibels in a halved quantization step.
OCTAVE_DB = 6.02


def gain_factor(gain: int) -> float:
    """What latents are multiplied by."""
    return float(2.0 ** (gain / GAIN_OCTAVE))


def gain_db(gain: float) -> float:
    """The quality in decibels that a gain stands for."""
    return gain / GAIN_OCTAVE * OCTAVE_DB
