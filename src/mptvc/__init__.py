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
- many videos: `Tokenizer` in an engine of yours; `ShardDecoder` and `VideoDataset` read its shards;
- tokens: `Codec.encode`, `Codec.decode`, `Codec.pack`, `Codec.unpack`, `export_tokens`, `import_tokens`.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mptvc.codec.codec import Codec as Codec
    from mptvc.codec.codec import DecodedVideo as DecodedVideo
    from mptvc.codec.rate import Rate as Rate
    from mptvc.codec.tokens import Prediction as Prediction
    from mptvc.codec.tokens import Tokens as Tokens
    from mptvc.codec.weights import load_codec as load  # noqa: F401 - public under the shorter name
    from mptvc.corpus.tokenizer import Tokenizer as Tokenizer
    from mptvc.corpus.tokenizer import TokenizerOptions as TokenizerOptions
    from mptvc.errors import CorruptPacketError as CorruptPacketError
    from mptvc.errors import FormatError as FormatError
    from mptvc.errors import LimitExceededError as LimitExceededError
    from mptvc.errors import MptError as MptError
    from mptvc.errors import NotMptError as NotMptError
    from mptvc.errors import SizeChangeError as SizeChangeError
    from mptvc.errors import UnsupportedVersionError as UnsupportedVersionError
    from mptvc.errors import VideoError as VideoError
    from mptvc.errors import WeightsError as WeightsError
    from mptvc.files.dataset import VideoDataset as VideoDataset
    from mptvc.files.digests import symbol_digests as symbol_digests
    from mptvc.files.encoding import EncodeReport as EncodeReport
    from mptvc.files.reader import VideoReader as VideoReader
    from mptvc.files.samples import ShardDecoder as ShardDecoder
    from mptvc.files.tokens import export_tokens as export_tokens
    from mptvc.files.tokens import import_tokens as import_tokens
    from mptvc.files.transcode import DecodeReport as DecodeReport
    from mptvc.files.transcode import decode_file as decode_file
    from mptvc.files.transcode import encode_file as encode_file
    from mptvc.files.writer import VideoWriter as VideoWriter
    from mptvc.format.header import Availability as Availability
    from mptvc.format.header import Colour as Colour
    from mptvc.format.header import Header as Header
    from mptvc.format.header import VideoInfo as VideoInfo
    from mptvc.format.inspect import FileReport as FileReport
    from mptvc.format.inspect import probe as probe
    from mptvc.format.inspect import truncate as truncate
    from mptvc.format.inspect import verify as verify
    from mptvc.format.limits import Limits as Limits
    from mptvc.video.cuts import detect_shots as detect_shots
    from mptvc.video.raw import RawVideo as RawVideo
    from mptvc.video.sink import OutputOptions as OutputOptions

__version__ = version("mptvc")

# Names are looked up on first use, so that `probe` and `truncate` do not wait for torch; a test holds
# this table against the imports above.
_HOMES = {
    "load": ("codec.weights", "load_codec"),
    "Codec": ("codec.codec", "Codec"),
    "Tokens": ("codec.tokens", "Tokens"),
    "Prediction": ("codec.tokens", "Prediction"),
    "DecodedVideo": ("codec.codec", "DecodedVideo"),
    "encode_file": ("files.transcode", "encode_file"),
    "decode_file": ("files.transcode", "decode_file"),
    "symbol_digests": ("files.digests", "symbol_digests"),
    "EncodeReport": ("files.encoding", "EncodeReport"),
    "DecodeReport": ("files.transcode", "DecodeReport"),
    "VideoReader": ("files.reader", "VideoReader"),
    "VideoWriter": ("files.writer", "VideoWriter"),
    "VideoDataset": ("files.dataset", "VideoDataset"),
    "ShardDecoder": ("files.samples", "ShardDecoder"),
    "export_tokens": ("files.tokens", "export_tokens"),
    "import_tokens": ("files.tokens", "import_tokens"),
    "Tokenizer": ("corpus.tokenizer", "Tokenizer"),
    "TokenizerOptions": ("corpus.tokenizer", "TokenizerOptions"),
    "detect_shots": ("video.cuts", "detect_shots"),
    "Rate": ("codec.rate", "Rate"),
    "RawVideo": ("video.raw", "RawVideo"),
    "OutputOptions": ("video.sink", "OutputOptions"),
    "probe": ("format.inspect", "probe"),
    "verify": ("format.inspect", "verify"),
    "truncate": ("format.inspect", "truncate"),
    "FileReport": ("format.inspect", "FileReport"),
    "Header": ("format.header", "Header"),
    "VideoInfo": ("format.header", "VideoInfo"),
    "Colour": ("format.header", "Colour"),
    "Availability": ("format.header", "Availability"),
    "Limits": ("format.limits", "Limits"),
    "MptError": ("errors", "MptError"),
    "FormatError": ("errors", "FormatError"),
    "NotMptError": ("errors", "NotMptError"),
    "UnsupportedVersionError": ("errors", "UnsupportedVersionError"),
    "CorruptPacketError": ("errors", "CorruptPacketError"),
    "LimitExceededError": ("errors", "LimitExceededError"),
    "WeightsError": ("errors", "WeightsError"),
    "VideoError": ("errors", "VideoError"),
    "SizeChangeError": ("errors", "SizeChangeError"),
}
__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module mptvc has no attribute {name}")
    module, attribute = _HOMES[name]
    return getattr(import_module(f"mptvc.{module}"), attribute)


def __dir__() -> list[str]:
    return __all__
