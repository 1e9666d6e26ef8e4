"""A small Hub on this machine: the endpoints that a download needs, over real HTTP.

Serves ``/{owner}/{name}/resolve/{revision}/{file}`` with the headers and error codes of the Hub, and
records every request.
"""

import hashlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Self
from urllib.parse import unquote


@dataclass
class Repository:
    """One model repository.

    Attributes:
        commits: Files of each commit by its hash of 40 hexadecimal digits.
        refs: Commit of each branch and tag.
        token: Token that may read it; None lets everybody.
        gated: Whether its existence shows to those who may not read it.
        faults: For a file, what becomes of its next downloads, one entry for each: ``cut`` closes the
            connection after half of the body, ``reset`` resets it, ``error`` answers 500 (HEAD too).
    """

    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str]
    token: str | None = None
    gated: bool = False
    faults: dict[str, list[str]] = field(default_factory=dict)


def single_commit(files: dict[str, bytes]) -> Repository:
    """A public repository whose branch ``main`` holds ``files``."""
    return Repository({"0" * 40: files}, {"main": "0" * 40})


@dataclass(frozen=True)
class Request:
    """A request as it came in: method, repository, revision, file and the Range header."""

    method: str
    repository: str
    revision: str
    file: str
    range: str | None


class HubServer:
    """Runs on 127.0.0.1 between ``with`` and its end.

    Attributes:
        repositories: By ``owner/name``.
        requests: Every request so far.
    """

    def __init__(self, repositories: dict[str, Repository]) -> None:
        self.repositories = repositories
        self.requests: list[Request] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(hub: HubServer) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(_Handler):
        server_hub = hub

    return Handler


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer

    def do_HEAD(self) -> None:
        self._respond(with_body=False)

    def do_GET(self) -> None:
        self._respond(with_body=True)

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def _respond(self, *, with_body: bool) -> None:
        parts = self.path.partition("?")[0].lstrip("/").split("/")
        if len(parts) < 5 or parts[2] != "resolve":
            self._refuse(404, "RepoNotFound", "Not Found")
            return
        name, revision, file = "/".join(parts[:2]), unquote(parts[3]), unquote("/".join(parts[4:]))
        self.server_hub.requests.append(
            Request(self.command, name, revision, file, self.headers.get("Range"))
        )
        repository = self.server_hub.repositories.get(name)
        if repository is None:
            self._refuse(404, "RepoNotFound", "Repository not found")
            return
        if repository.token and self.headers.get("Authorization") != f"Bearer {repository.token}":
            code = "GatedRepo" if repository.gated else "RepoNotFound"
            self._refuse(401, code, "Access is restricted: log in")
            return
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        content = repository.commits[commit].get(file)
        if content is None:
            self._refuse(404, "EntryNotFound", "Entry not found", commit=commit)
            return
        faults = repository.faults.get(file, [])
        fault = faults.pop(0) if faults and (with_body or faults[0] == "error") else None
        if fault == "error":
            self._refuse(500, None, "Internal error")
            return
        self._send(content, commit, fault, with_body=with_body)

    def _send(self, content: bytes, commit: str, fault: str | None, *, with_body: bool) -> None:
        first = 0
        if wanted := self.headers.get("Range"):
            first = int(wanted.removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if not with_body:
            return
        body = content[first:]
        self.wfile.write(body[: len(body) // 2] if fault else body)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()

    def _refuse(self, status: int, code: str | None, message: str, *, commit: str | None = None) -> None:
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        if commit is not None:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()
