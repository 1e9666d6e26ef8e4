"""The exception tree.

    MptError
    |- FormatError                bytes are not a valid .mpt; carries the offset
    |  |- NotMptError             wrong magic
    |  |- UnsupportedVersionError found and supported versions
    |  '- CorruptPacketError      checksum wrong or words left over; level, clip, offset
    |- LimitExceededError         larger than a stated limit; names the option that raises it
    |- WeightsError               missing, damaged or not those the file was made with
    '- VideoError                 a video cannot be read or written; the original error chained
       '- SizeChangeError         pictures of another size come; carries when

A caller's wrong argument is a ``ValueError``. Every message says what was found, what was expected
and what to do.
"""

import copyreg
from typing import Any


class MptError(Exception):
    """Base of every error that mptvc raises about data, weights or video.

    Attributes:
        file: Path or address of the file that it is about, where it is known; the message names it.
    """

    def __init__(self, message: str, *, file: str | None = None) -> None:
        super().__init__(message)
        self.file = file

    def name_file(self, file: str) -> None:
        """Say which file the error is about, unless it is known already."""
        if self.file is None:
            self.file = file
            self.args = (f"{file}: {self}",)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes as it is, whatever the constructor of its class takes."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class FormatError(MptError):
    """The bytes are not a valid ``.mpt`` file.

    Attributes:
        offset: Byte offset in the file at which the fault was found, or None.
    """

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message if offset is None else f"{message} (byte {offset})")
        self.offset = offset


class NotMptError(FormatError):
    """The first bytes are not those of an ``.mpt`` file."""


class UnsupportedVersionError(FormatError):
    """The file uses a format version that this release cannot read.

    Attributes:
        found: Version in the file.
        supported: Versions that this release reads.
    """

    def __init__(self, found: int, supported: tuple[int, ...]) -> None:
        known = ", ".join(map(str, supported))
        advice = "encode the source again" if found < min(supported) else "install a newer mptvc"
        super().__init__(
            f"format version {found} is not supported; this release reads version {known}: {advice}", offset=8
        )
        self.found = found
        self.supported = supported


class CorruptPacketError(FormatError):
    """The data of one section fails its checks.

    Attributes:
        level: Level of the section, 0 is the coarsest.
        clip: Index of the clip.
    """

    def __init__(self, reason: str, *, level: int, clip: int, offset: int | None = None) -> None:
        super().__init__(f"level {level}, clip {clip} is damaged: {reason}", offset=offset)
        self.level = level
        self.clip = clip


class LimitExceededError(MptError):
    """Dimensions, frames or memory exceed a stated limit."""


class WeightsError(MptError):
    """Weights are missing, damaged, or not those that a file was made with.

    Attributes:
        expected: Identity that was asked for, or None.
        found: Identity that was found, or None.
    """

    def __init__(self, message: str, *, expected: str | None = None, found: str | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


class VideoError(MptError):
    """A video cannot be read or written."""


class SizeChangeError(VideoError):
    """The size of a video's pictures changes on the way.

    Attributes:
        at: Seconds from the source's first frame to the first of another size.
    """

    def __init__(self, message: str, *, at: float) -> None:
        super().__init__(message)
        self.at = at
