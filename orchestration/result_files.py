"""An ASGI wrapper that serves pictures and reports of the home beside Dagster's pages, which link to them.

Read-only, and only files whose names are digests: nothing else of the home can be reached. Not here: who may ask
(request_guard).
"""

from __future__ import annotations

import re
from pathlib import Path

from starlette.responses import FileResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from assets.metadata import SERVED

_FILE = re.compile(
    rf"{SERVED}/(?P<file>pictures/[0-9a-f]{{32}}(-page)?\.png|reports/[0-9a-f]{{16}}/(report\.html|[a-z0-9_-]+\.png))"
)
# A report contains its styles and pictures, and no script.
_HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}


class ResultFiles:
    """The wrapped application, and files of one home below SERVED."""

    def __init__(self, app: ASGIApp, home: Path) -> None:
        self.app = app
        self.home = home

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(f"{SERVED}/"):
            await self.app(scope, receive, send)
            return
        found = _FILE.fullmatch(scope["path"])
        file = self._file(found["file"]) if found else None
        if file is None or scope["method"] not in ("GET", "HEAD") or not file.is_file():
            await PlainTextResponse("not found\n", status_code=404)(scope, receive, send)
            return
        await FileResponse(file, headers=_HEADERS)(scope, receive, send)

    def _file(self, name: str) -> Path | None:
        """A file of the home by its address, which has the beginning of a report's digest."""
        folder, *rest = name.split("/")
        if folder == "pictures":
            return self.home / name
        digest, file = rest
        found = sorted((self.home / folder).glob(f"{digest}*"))
        return found[0] / file if len(found) == 1 else None
