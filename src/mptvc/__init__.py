"""mptvc: a neural video codec and tokenizer whose files play from any prefix.

Example:
    >>> import mptvc, numpy as np
    >>> codec = mptvc.load()
    >>> frames = np.zeros((5, 48, 64, 3), dtype=np.uint8)
    >>> data = codec.compress(frames)
    >>> codec.decompress(data).frames.shape
    (5, 48, 64, 3)

Where to start:

- frames to bytes and back: `load`, then `Codec.compress` and `Codec.decompress`, of any prefix too;
- files: `encode_file`, `decode_file`, `truncate`, `probe`, `verify`;
- frames or tokens by number, from a file or an address: `VideoReader`; from many files: `VideoDataset`;
- frames as they come: `VideoWriter`;
- tokens: `Codec.encode`, `Codec.decode`, `Codec.pack`, `export_tokens`, `import_tokens`.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mptvc.api import DecodeReport as DecodeReport
    from mptvc.api import EncodeReport as EncodeReport
    from mptvc.api import decode_file as decode_file
    from mptvc.api import encode_file as encode_file
    from mptvc.api import symbol_digests as symbol_digests
    from mptvc.bitstream import Limits as Limits
    from mptvc.codec import Codec as Codec
    from mptvc.codec import DecodedVideo as DecodedVideo
    from mptvc.codec import Tokens as Tokens
    from mptvc.cuts import detect_shots as detect_shots
    from mptvc.dataset import VideoDataset as VideoDataset
    from mptvc.errors import CorruptPacketError as CorruptPacketError
    from mptvc.errors import FormatError as FormatError
    from mptvc.errors import LimitExceededError as LimitExceededError
    from mptvc.errors import MptError as MptError
    from mptvc.errors import NotMptError as NotMptError
    from mptvc.errors import UnsupportedVersionError as UnsupportedVersionError
    from mptvc.errors import VideoError as VideoError
    from mptvc.errors import WeightsError as WeightsError
    from mptvc.files import FileReport as FileReport
    from mptvc.files import probe as probe
    from mptvc.files import truncate as truncate
    from mptvc.files import verify as verify
    from mptvc.header import Availability as Availability
    from mptvc.header import Colour as Colour
    from mptvc.header import Header as Header
    from mptvc.header import VideoInfo as VideoInfo
    from mptvc.rate import Rate as Rate
    from mptvc.raw_video import RawVideo as RawVideo
    from mptvc.reader import VideoReader as VideoReader
    from mptvc.token_files import export_tokens as export_tokens
    from mptvc.token_files import import_tokens as import_tokens
    from mptvc.video_output import OutputOptions as OutputOptions
    from mptvc.weights import load_codec as load  # noqa: F401 - public under the shorter name
    from mptvc.writer import VideoWriter as VideoWriter

__version__ = version("mptvc")

# Names are looked up on first use, so that `probe` and `truncate` do not wait for torch; a test holds
# this table against the imports above.
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
    "VideoReader": ("reader", "VideoReader"),
    "VideoWriter": ("writer", "VideoWriter"),
    "VideoDataset": ("dataset", "VideoDataset"),
    "export_tokens": ("token_files", "export_tokens"),
    "import_tokens": ("token_files", "import_tokens"),
    "detect_shots": ("cuts", "detect_shots"),
    "Rate": ("rate", "Rate"),
    "RawVideo": ("raw_video", "RawVideo"),
    "OutputOptions": ("video_output", "OutputOptions"),
    "probe": ("files", "probe"),
    "verify": ("files", "verify"),
    "truncate": ("files", "truncate"),
    "FileReport": ("files", "FileReport"),
    "Header": ("header", "Header"),
    "VideoInfo": ("header", "VideoInfo"),
    "Colour": ("header", "Colour"),
    "Availability": ("header", "Availability"),
    "Limits": ("bitstream", "Limits"),
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
