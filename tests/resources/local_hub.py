"""A small HTTP server with the hub's API: model information, and files with ranges."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

import pytest

Files = Mapping[str, bytes]
CHUNK = 2**20


@dataclass
class LocalHub:
    """Repositories by name, each a list of commits, the newest last; the branch main is at the newest.

    Attributes:
        requests: (method, path, range) of each request.
        stop_after: bytes of a file after which the server sends no more, until it is set to None.
        sent: files that are sent instead of what was announced, by name.
    """

    url: str = ""
    repositories: dict[str, list[tuple[str, datetime, Files]]] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    stop_after: int | None = None
    sent: dict[str, bytes] = field(default_factory=dict)
    resumed: threading.Event = field(default_factory=threading.Event)

    def commit(self, repository: str, day: str, files: Files) -> str:
        """Add a commit and return its hash."""
        commits = self.repositories.setdefault(repository, [])
        commit = hashlib.sha1(f"{repository} {len(commits)}".encode()).hexdigest()
        commits.append((commit, datetime.fromisoformat(f"{day}T12:00:00+00:00"), files))
        return commit

    def find(self, repository: str, revision: str) -> tuple[str, datetime, Files] | None:
        """A commit by its hash, or the newest of main."""
        commits = self.repositories.get(repository, [])
        return next((one for one in reversed(commits) if revision in ("main", one[0])), None)

    @property
    def downloads(self) -> list[tuple[str, str]]:
        """Name and range of each file that was sent."""
        return [
            (path.rpartition("/")[2], span)
            for method, path, span in self.requests
            if method == "GET" and "/resolve/" in path
        ]


def announced(name: str, content: bytes) -> dict[str, object]:
    """What the hub states of a file: large ones are in LFS."""
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": git}
    if name.endswith(".safetensors"):
        entry["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 134}
    return entry


def etag(name: str, content: bytes) -> str:
    entry = announced(name, content)
    lfs = entry.get("lfs")
    return str(lfs["sha256"] if isinstance(lfs, dict) else entry["blobId"])


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let huggingface_hub, which reads the environment when it is imported, ask this address."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """A running server."""
    hub = LocalHub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._serve(False)

        def do_GET(self) -> None:
            self._serve(True)

        def log_message(self, *_: object) -> None: ...

        def _serve(self, body: bool) -> None:
            path = unquote(urlparse(self.path).path)
            hub.requests.append((self.command, path, self.headers.get("Range", "")))
            if path.startswith("/api/models/"):
                repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
                self._describe(repository, revision or "main")
            else:
                repository, _, rest = path.lstrip("/").partition("/resolve/")
                revision, _, name = rest.partition("/")
                self._send_file(repository, revision, name, body)

        def _describe(self, repository: str, revision: str) -> None:
            found = hub.find(repository, revision)
            if found is None:
                self._refuse("RevisionNotFound" if repository in hub.repositories else "RepoNotFound")
                return
            commit, moment, files = found
            content = {
                "id": repository,
                "sha": commit,
                "lastModified": moment.isoformat().replace("+00:00", ".000Z"),
                "cardData": {"license": "apache-2.0"},
                "siblings": [announced(name, content) for name, content in files.items()],
            }
            self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _send_file(self, repository: str, revision: str, name: str, body: bool) -> None:
            found = hub.find(repository, revision)
            if found is None or name not in found[2]:
                self._refuse("EntryNotFound")
                return
            content = hub.sent.get(name, found[2][name])
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            headers = {"ETag": f'"{etag(name, found[2][name])}"', "X-Repo-Commit": found[0], "Accept-Ranges": "bytes"}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._answer(206 if start else 200, content[start:], headers, body)

        def _refuse(self, code: str) -> None:
            self._answer(404, b"{}", {"X-Error-Code": code})

        def _answer(self, status: int, payload: bytes, headers: Mapping[str, str], body: bool = True) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(payload))}.items():
                self.send_header(key, value)
            self.end_headers()
            if not body:
                return
            for start in range(0, len(payload), CHUNK):
                if hub.stop_after is not None and start >= hub.stop_after:
                    hub.resumed.wait()
                with suppress(ConnectionError):  # of a client that was killed
                    self.wfile.write(payload[start : start + CHUNK])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.resumed.set()
        server.shutdown()
        server.server_close()
