"""A file behind an HTTP address, read by ranges: only the bytes that are asked for are fetched.

Reads that follow one another are fetched ahead, so that a file of many small sections takes few requests.
"""

import re
import time
from dataclasses import dataclass
from http.client import HTTPException
from io import RawIOBase, UnsupportedOperation
from os import SEEK_CUR, SEEK_END, SEEK_SET
from threading import Lock

from mptvc.errors import MptError
from mptvc.format.connection import KeptConnection

#: Fetched at once at the start; holds most headers with some of level 0.
_FIRST_BYTES = 2**14
#: Most bytes of one fetch ahead, which are never more than were read in a row before.
_MOST_AHEAD = 2**20
#: Fetches in a row after which the next is taken for granted.
_ROW = 2
#: Places in the file at which reading may go on: one in each of at most eight levels, and one before them.
_PLACES = 9
_TRIES = 3


def is_url(source: object) -> bool:
    """Whether a source is an HTTP address."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


@dataclass
class _Place:
    """Where reads have followed one another.

    Attributes:
        at: Position of the next byte.
        start: Position of the first byte of ``data``.
        data: What was fetched last, where some of it has not been read.
        taken: Bytes that were read in a row.
        fetches: Requests that this took.
    """

    at: int
    start: int = 0
    data: bytes = b""
    taken: int = 0
    fetches: int = 0

    @property
    def end(self) -> int:
        """Position after the last byte that is known."""
        return self.start + len(self.data) if self.data else self.at


class RemoteFile(RawIOBase):
    """A seekable, read-only binary file behind an address whose server knows byte ranges.

    One connection is kept for all requests. Reads from several threads come one after the other.

    Args:
        url: ``http://`` or ``https://`` address.

    Attributes:
        size_bytes: Length of the file.
        fetched_bytes: Bytes of it that were requested so far.

    Raises:
        MptError: The server does not answer, or does not know ranges.
        ValueError: It is another kind of address.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._connection, self._lock = KeptConnection(url), Lock()
        if not is_url(url):
            raise ValueError(f"an address starts with http:// or https://, found {url}")
        self.url, self.fetched_bytes = url, 0
        self._at, self._tag = 0, ""
        self.size_bytes = 0
        self._start = self._fetch(0, _FIRST_BYTES)
        self._places = [_Place(len(self._start), taken=len(self._start))]

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Move to a position and return it."""
        origins = {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self.size_bytes}
        if origins[whence] + offset < 0:
            raise UnsupportedOperation("a position before the start")
        self._at = origins[whence] + offset
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Fetch bytes from the position on; fewer only at the end of the file.

        Raises:
            MptError: The server does not answer, or the file has changed.
            ValueError: The file is closed.
        """
        with self._lock:
            if self.closed:
                raise ValueError("the file is closed")
            rest = max(0, self.size_bytes - self._at)
            count = rest if size is None or size < 0 else min(size, rest)
            data = self._start[self._at : self._at + count]
            if len(data) < count:
                data += self._read_on(self._at + len(data), count - len(data))
            self._at += count
            return data

    def close(self) -> None:
        """Close the connection."""
        super().close()
        self._connection.close()

    def _read_on(self, at: int, count: int) -> bytes:
        """Bytes after the start, from what was fetched ahead as far as that goes."""
        place = self._place(at)
        data = place.data[at - place.start : at - place.start + count]
        if missing := count - len(data):
            start = at + len(data)
            ahead = min(place.taken, _MOST_AHEAD) if place.fetches >= _ROW else 0
            fetched = self._fetch(start, min(max(missing, ahead), self.size_bytes - start))
            data += fetched[:missing]
            place.start, place.data = start, fetched
            place.fetches += 1
        place.at, place.taken = at + count, place.taken + count
        if place.at == place.end:
            place.data = b""
        return data

    def _place(self, at: int) -> _Place:
        """The place from which reading goes on here; a new one instead of the oldest where it does not."""
        known = (place for place in self._places if place.at <= at <= place.end)
        found = next(known, None) or _Place(at)
        self._places = [found, *(place for place in self._places if place is not found)][:_PLACES]
        return found

    def _fetch(self, start: int, count: int) -> bytes:
        for tried in range(1, _TRIES + 1):
            try:
                return self._request(start, count)
            except (HTTPException, OSError) as error:
                self._connection.restart()
                if tried == _TRIES:
                    raise self._refusal(str(error)) from error
            time.sleep(0.2 * 2**tried)
        raise AssertionError("the last try returns or raises")

    def _request(self, start: int, count: int) -> bytes:
        headers = {"Range": f"bytes={start}-{start + count - 1}", "User-Agent": "mptvc"}
        answer = self._connection.get(headers, count)
        if answer.status >= 500:
            raise HTTPException(f"{answer.status} {answer.reason}")
        if answer.status == 416 and start == 0:  # an empty file has no range
            return b""
        if answer.status >= 400:
            raise self._refusal(f"{answer.status} {answer.reason}")
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if answer.status != 206 or span is None:
            raise self._refusal("the server does not send byte ranges; download the file first")
        first, size = map(int, span.groups())
        tag = answer.headers.get("ETag", "")
        if self.size_bytes and (size, tag) != (self.size_bytes, self._tag):
            raise self._refusal("the file has changed while it was read")
        self.size_bytes, self._tag = size, tag
        expected = min(count, size - start)
        if first != start or len(answer.body) < expected:
            raise ConnectionError(f"{len(answer.body)} of {expected} bytes came")
        self.fetched_bytes += expected
        return answer.body[:expected]

    def _refusal(self, message: str) -> MptError:
        return MptError(f"{self.url}: {message}", file=self.url)
