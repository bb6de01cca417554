"""An ASGI wrapper that serves pictures and reports of the home beside Dagster's pages, which link to them.

Only files whose names are digests: nothing else of the home can be reached. A picture that was not looked at before is
drawn, and stored. Dagster's pages get a style that fits pictures into narrow windows. Not here: who may ask
(request_guard), and how pictures are made (assets.picture_files).
"""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assets.metadata import SERVED
from assets.picture_files import PictureFiles, PictureLostError
from resources.layout import Home

logger = logging.getLogger("candlecast.pictures")

_PICTURE = re.compile(rf"{SERVED}/pictures/(?P<digest>[0-9a-f]{{32}})(?P<page>-page)?\.png")
_REPORT = re.compile(rf"{SERVED}/reports/(?P<digest>[0-9a-f]{{16}})/(?P<file>report\.html|[a-z0-9_-]+\.png)")
# A report contains its styles and pictures, and no script.
_HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}
# A page cuts off what is wider than its column, and Markdown has no size of pictures.
STYLE, _END = b"<style>.dagster-markdown img { max-width: 100% }</style>", b"</head>"


class ResultFiles:
    """The wrapped application, and files of one home below SERVED."""

    def __init__(self, app: ASGIApp, home: Path) -> None:
        self.app = app
        self.home = Home(home)
        self.pictures = PictureFiles(self.home.pictures)
        # One drawing at a time: matplotlib's style is of the process.
        self.drawing = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(f"{SERVED}/"):
            await self.app(scope, receive, _with_style(send))
            return
        await (await self.answer(scope["method"], scope["path"]))(scope, receive, send)

    async def answer(self, method: str, path: str) -> Response:
        """The answer to a request below SERVED."""
        if method in ("GET", "HEAD"):
            if found := _PICTURE.fullmatch(path):
                return await self._picture(found["digest"], page=found["page"] is not None)
            if (found := _REPORT.fullmatch(path)) and (file := self._report(found["digest"], found["file"])):
                return FileResponse(file, headers=_HEADERS)
        return _refusal("not found", 404)

    async def _picture(self, digest: str, *, page: bool) -> Response:
        file = self.pictures.png(digest, page=page)
        if file.is_file():
            return FileResponse(file, headers=_HEADERS)
        try:
            async with self.drawing:
                png = await run_in_threadpool(self.pictures.make, digest, page=page)
        except PictureLostError as error:
            return _refusal(str(error), 404)
        # Whatever it is: the answer and the log of the webserver have the reason, and other pictures are served.
        except Exception as error:
            logger.exception("cannot draw %s", file)
            return _refusal(f"cannot draw {file.name}: {error}", 500)
        return Response(png, media_type="image/png", headers=_HEADERS)

    def _report(self, digest: str, name: str) -> Path | None:
        """A file of a report by the beginning of its digest."""
        found = sorted(self.home.reports.glob(f"{digest}*"))
        return file if len(found) == 1 and (file := found[0] / name).is_file() else None


def _with_style(send: Send) -> Send:
    """`send`, with STYLE added at the end of the head of a page."""
    start: Message | None = None

    async def sent(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            if Headers(raw=message["headers"]).get("content-type", "").startswith("text/html"):
                # Its length is known with the body.
                start = message
                return
        elif start is not None:
            body = message.get("body", b"")
            message = {**message, "body": body.replace(_END, STYLE + _END, 1)}
            headers = MutableHeaders(raw=start["headers"])
            if "content-length" in headers:
                headers["content-length"] = str(int(headers["content-length"]) + len(message["body"]) - len(body))
            await send({**start, "headers": headers.raw})
            start = None
        await send(message)

    return sent


def _refusal(reason: str, status: int) -> Response:
    return PlainTextResponse(f"{reason}\n", status_code=status, headers=_HEADERS)
