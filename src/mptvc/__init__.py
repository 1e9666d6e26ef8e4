"""mptvc: a neural video codec and tokenizer whose files play from any prefix.

Example:
    >>> import mptvc, numpy as np
    >>> codec = mptvc.load()
    >>> frames = np.zeros((5, 48, 64, 3), dtype=np.uint8)
    >>> data = codec.compress(frames)
    >>> codec.decompress(data).frames.shape
    (5, 48, 64, 3)
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("mptvc")

# Names are looked up on first use, so that `probe` and `truncate` do not wait for torch.
_HOMES = {
    "load": ("weights", "load_codec"),
    "Codec": ("codec", "Codec"),
    "Tokens": ("codec", "Tokens"),
    "DecodedVideo": ("codec", "DecodedVideo"),
    "encode_file": ("api", "encode_file"),
    "decode_file": ("api", "decode_file"),
    "symbol_digests": ("api", "symbol_digests"),
    "EncodeReport": ("api", "EncodeReport"),
    "DecodeReport": ("api", "DecodeReport"),
    "detect_shots": ("video_input", "detect_shots"),
    "OutputOptions": ("video_output", "OutputOptions"),
    "probe": ("files", "probe"),
    "verify": ("files", "verify"),
    "truncate": ("files", "truncate"),
    "FileReport": ("files", "FileReport"),
    "Header": ("header", "Header"),
    "VideoInfo": ("header", "VideoInfo"),
    "Colour": ("header", "Colour"),
    "Availability": ("header", "Availability"),
    "MptError": ("errors", "MptError"),
    "FormatError": ("errors", "FormatError"),
    "NotMptError": ("errors", "NotMptError"),
    "UnsupportedVersionError": ("errors", "UnsupportedVersionError"),
    "CorruptPacketError": ("errors", "CorruptPacketError"),
    "LimitExceededError": ("errors", "LimitExceededError"),
    "WeightsError": ("errors", "WeightsError"),
    "VideoError": ("errors", "VideoError"),
}
__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module mptvc has no attribute {name}")
    module, attribute = _HOMES[name]
    return getattr(import_module(f"mptvc.{module}"), attribute)


def __dir__() -> list[str]:
    return __all__
