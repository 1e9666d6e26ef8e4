"""What a container holds beside its streams of packets: texts about it, chapters, attached files."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Self

import av

#: Texts that a muxer writes about its own work.
_TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "encoder"}
_TICK = Fraction(1, av.time_base)


@dataclass(frozen=True)
class Chapter:
    """A part of a video.

    Attributes:
        start: Seconds.
        end: Seconds.
        texts: What is said of it, such as its title.
    """

    start: Fraction
    end: Fraction
    texts: dict[str, str]


@dataclass(frozen=True)
class Attachment:
    """A file inside a container, such as a font.

    Attributes:
        name: Its name.
        mimetype: Its type.
        data: Its bytes.
    """

    name: str
    mimetype: str
    data: bytes


@dataclass(frozen=True)
class Extras:
    """What a container holds beside its streams of packets.

    Attributes:
        texts: Title, author and the like.
        chapters: Parts of the video.
        attachments: Files.
    """

    texts: dict[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()
    attachments: tuple[Attachment, ...] = ()

    @classmethod
    def of(cls, container: av.container.InputContainer) -> Self:
        """What a container holds."""
        texts = {k: v for k, v in container.metadata.items() if k.lower() not in _TECHNICAL and v}
        chapters = tuple(
            Chapter(c["start"] * tick, c["end"] * tick, c["metadata"])
            for c in container.chapters()
            if (tick := c["time_base"])
        )
        files = tuple(
            Attachment(s.name or f"file {s.index}", s.mimetype or "application/octet-stream", s.data)
            for s in container.streams.attachments
        )
        return cls(texts, chapters, files)

    def within(self, start: Fraction, end: Fraction | None, shift: Fraction | int) -> "Extras":
        """The same with what is left of the chapters between two times, then moved by ``shift`` seconds."""
        cut = (
            replace(c, start=max(c.start, start), end=c.end if end is None else min(c.end, end))
            for c in self.chapters
        )
        moved = (replace(c, start=c.start + shift, end=c.end + shift) for c in cut if c.start < c.end)
        return replace(self, chapters=tuple(moved))

    def write(self, out: av.container.OutputContainer) -> Iterable[str]:
        """Give all that to a container that is not begun yet; what it cannot hold is named."""
        out.metadata.update(self.texts)
        out.set_chapters(
            [
                {
                    "id": number,
                    "start": round(chapter.start / _TICK),
                    "end": round(chapter.end / _TICK),
                    "time_base": _TICK,
                    "metadata": chapter.texts,
                }
                for number, chapter in enumerate(self.chapters, start=1)
            ]
        )
        for file in self.attachments:
            if out.format.name == "matroska":
                out.add_attachment(file.name, file.mimetype, file.data)
            else:
                yield f"the attached file {file.name} is left out: {out.format.name} holds none"
