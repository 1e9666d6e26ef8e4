"""A file behind an HTTP address, read by ranges: only the bytes that are asked for are fetched."""

import re
import time
from http.client import HTTPException
from io import BytesIO, RawIOBase, UnsupportedOperation
from os import SEEK_CUR, SEEK_END, SEEK_SET
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from mptvc.errors import MptError

#: Fetched at once at the start; holds most headers with some of level 0.
_FIRST_BYTES = 2**14
_TIMEOUT_S = 30
#: What an address keeps as it is; all else, such as letters with accents, is escaped.
_URL_CHARACTERS = "%/:=&?~#+!$,;'@()*[]"
_TRIES = 3


def is_url(source: object) -> bool:
    """Whether a source is an HTTP address."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


class RemoteFile(RawIOBase):
    """A seekable, read-only binary file behind an address whose server knows byte ranges.

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
        if not is_url(url):
            raise ValueError(f"an address starts with http:// or https://, found {url}")
        self.url, self.fetched_bytes = url, 0
        self._at, self._tag = 0, ""
        self.size_bytes = 0
        self._start = self._fetch(0, _FIRST_BYTES)

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
        """
        rest = max(0, self.size_bytes - self._at)
        count = rest if size is None or size < 0 else min(size, rest)
        if count == 0:
            return b""
        known = BytesIO(self._start)
        known.seek(self._at)
        data = known.read(count)
        if len(data) < count:
            data += self._fetch(self._at + len(data), count - len(data))
        self._at += count
        return data

    def _fetch(self, start: int, count: int) -> bytes:
        for tried in range(1, _TRIES + 1):
            try:
                return self._request(start, count)
            except HTTPError as error:
                if error.code == 416 and start == 0:  # an empty file has no range
                    return b""
                if error.code < 500 or tried == _TRIES:
                    raise MptError(f"{self.url}: {error.code} {error.reason}") from error
            except (URLError, HTTPException, OSError) as error:
                if tried == _TRIES:
                    raise MptError(f"{self.url}: {getattr(error, 'reason', error)}") from error
            time.sleep(0.2 * 2**tried)
        raise AssertionError("the last try returns or raises")

    def _request(self, start: int, count: int) -> bytes:
        headers = {"Range": f"bytes={start}-{start + count - 1}", "Accept-Encoding": "identity"}
        request = Request(quote(self.url, safe=_URL_CHARACTERS), headers=headers)  # noqa: S310 - the address was checked
        with urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if response.status != 206 or span is None:
                raise MptError(f"{self.url}: the server does not send byte ranges; download the file first")
            first, size = map(int, span.groups())
            tag = response.headers.get("ETag", "")
            if self.size_bytes and (size, tag) != (self.size_bytes, self._tag):
                raise MptError(f"{self.url}: the file has changed while it was read")
            self.size_bytes, self._tag = size, tag
            expected = min(count, size - start)
            data: bytes = response.read(expected)
        if first != start or len(data) < expected:
            raise ConnectionError(f"{len(data)} of {expected} bytes came")
        self.fetched_bytes += len(data)
        return data
