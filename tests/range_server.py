"""A small web server on this machine that knows byte ranges, keeps connections, and can misbehave."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit


class RangeServer(ThreadingHTTPServer):
    """Serves a folder; also as a proxy, for any host.

    Attributes:
        knows_ranges: Whether it answers with ranges.
        tag: The ETag of every file.
        fail_next: How many of the next requests it answers with ``fail_with``.
        hangs_up: Closes the connection after every answer, without a word.
        leads: For a path the address to which it redirects.
        connections: Connections that were opened.
        requests: What was asked for: method and request target.
        sent_bytes: Bytes of files that were sent.
        headers: Of the last request.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), RangeHandler)
        self.folder = folder
        self.knows_ranges, self.tag, self.hangs_up = True, "one", False
        self.fail_next, self.fail_with = 0, 503
        self.leads: dict[str, str] = {}
        self.connections, self.sent_bytes = 0, 0
        self.requests: list[tuple[str, str]] = []
        self.headers: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator[Self]:
        with cls(folder) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            try:
                yield server
            finally:
                server.shutdown()
                thread.join()


class RangeHandler(SimpleHTTPRequestHandler):
    """One connection to the server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body go out apart, and the second would wait for the first
    server: RangeServer

    def __init__(self, request: Any, address: Any, server: RangeServer) -> None:
        super().__init__(request, address, server, directory=str(server.folder))

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_CONNECT(self) -> None:
        self._note()
        self.send_error(403)

    def do_GET(self) -> None:
        self._note()
        path = urlsplit(self.path).path  # a proxy is asked for whole addresses
        if self.server.fail_next:
            self.server.fail_next -= 1
            self.send_error(self.server.fail_with)
        elif path in self.server.leads:
            self.send_response(302)
            self.send_header("Location", self.server.leads[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif not (file := Path(self.translate_path(path))).exists():
            self.send_error(404)
        else:
            self._send(file.read_bytes())
        self.close_connection = self.close_connection or self.server.hangs_up

    def _note(self) -> None:
        self.server.requests.append((self.command, self.path))
        self.server.headers = dict(self.headers)

    def _send(self, body: bytes) -> None:
        wanted = self.headers.get("Range")
        if wanted is None or not self.server.knows_ranges:
            self.send_response(200)
        else:
            first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
            size, body = len(body), body[first : last + 1]
            self.send_response(206 if body else 416)
            self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{size}")
        self.server.sent_bytes += len(body)
        self.send_header("ETag", self.server.tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""
