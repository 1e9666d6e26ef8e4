"""One HTTP connection that is kept from request to request: redirects, proxies, a server that hangs up.

Knows nothing of byte ranges and files; `remote` makes files of them.
"""

from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from mptvc.errors import MptError

_TIMEOUT_S = 30
#: What an address keeps as it is; all else, such as letters with accents, is escaped.
_URL_CHARACTERS = "%/:=&?~+!$,;'@()*[]"
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 10
_KINDS: dict[str, type[HTTPConnection]] = {"http": HTTPConnection, "https": HTTPSConnection}


@dataclass(frozen=True)
class Answer:
    """What a server answered: status, its reason, headers, and the body of a part that was asked for."""

    status: int
    reason: str
    headers: Message
    body: bytes


class KeptConnection:
    """Asks for an address again and again, where it can through one connection.

    Where the address leads to another one, that is asked from then on. Not safe to use from several threads
    at a time.

    Args:
        url: ``http://`` or ``https://`` address.
    """

    def __init__(self, url: str) -> None:
        self._url = self._address = url
        self._link: HTTPConnection | None = None
        self._target = ""
        self._proxy_headers: dict[str, str] = {}

    def get(self, headers: Mapping[str, str], most: int) -> Answer:
        """Ask for the address, with at most so many bytes of the body.

        Raises:
            HTTPException: The answer cannot be understood; another try may help, as for the next.
            OSError: The server or the proxy cannot be reached.
            MptError: The address, or one that it leads to, is none.
        """
        was_led = self._address != self._url
        answer = self._followed(headers, most)
        if was_led and answer.status >= 400:  # such an address may have an end in time
            self.restart()
            answer = self._followed(headers, most)
        return answer

    def restart(self) -> None:
        """Start with the first address and a new connection the next time."""
        self.close()
        self._address = self._url

    def close(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _followed(self, headers: Mapping[str, str], most: int) -> Answer:
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._sent(headers)
            place = response.headers.get("Location")
            if response.status not in _REDIRECTS or place is None:
                return self._read(response, most)
            self.close()
            self._address = urljoin(self._address, place)
        raise self._refusal(f"more than {_MOST_REDIRECTS} redirects")

    def _read(self, response: HTTPResponse, most: int) -> Answer:
        body = response.read(most) if response.status == 206 else b""
        if not response.isclosed():  # more is coming than anybody wants
            self.close()
        return Answer(response.status, response.reason, response.headers, body)

    def _sent(self, headers: Mapping[str, str]) -> HTTPResponse:
        was_open = self._link is not None and self._link.sock is not None
        try:
            return self._response(headers)
        except (HTTPException, OSError):
            self.close()
            if not was_open:
                raise
        return self._response(headers)  # the server has closed what was open

    def _response(self, headers: Mapping[str, str]) -> HTTPResponse:
        if self._link is None:
            self._link = self._opened()
        self._link.request("GET", self._target, headers={**headers, **self._proxy_headers})
        return self._link.getresponse()

    def _opened(self) -> HTTPConnection:
        """A connection to the server, or to the proxy that the environment names for it."""
        parts = self._split(self._address)
        path = quote(parts.path or "/", safe=_URL_CHARACTERS)
        self._target = f"{path}?{quote(parts.query, safe=_URL_CHARACTERS)}" if parts.query else path
        self._proxy_headers = {}
        proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
        if proxy is None:
            return _KINDS[parts.scheme](_host(parts), timeout=_TIMEOUT_S)
        via = self._split(proxy if "://" in proxy else f"http://{proxy}")
        if parts.scheme == "https":
            tunnel = HTTPSConnection(_host(via), timeout=_TIMEOUT_S)
            tunnel.set_tunnel(_host(parts), headers=_credentials(via))
            return tunnel
        self._target = f"http://{_host(parts)}{self._target}"
        self._proxy_headers = _credentials(via)
        return _KINDS[via.scheme](_host(via), timeout=_TIMEOUT_S)

    def _split(self, address: str) -> SplitResult:
        with suppress(ValueError):
            parts = urlsplit(address)
            if parts.scheme in _KINDS and parts.hostname:
                return parts
        raise self._refusal(f"found {address} instead of an http:// or https:// address")

    def _refusal(self, message: str) -> MptError:
        return MptError(f"{self._url}: {message}", file=self._url)


def _host(parts: SplitResult) -> str:
    """Host and port without user and password."""
    return parts.netloc.rpartition("@")[2]


def _credentials(proxy: SplitResult) -> dict[str, str]:
    """The header with the user and password that a proxy's address holds."""
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
