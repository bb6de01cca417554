"""Files of the pictures on assets' pages: PNG, and the data of charts that are drawn when somebody looks at them.

`<digest>.png`, and `<digest>-page.png` in the width of a page, are served by `orchestration.result_files`, which has
them made at their first request. Not here: how data become a chart (charts).
"""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path

from resources.errors import CandlecastError
from resources.publish import publish_bytes

logger = logging.getLogger("candlecast.pictures")

# Wider values are cut off on the page of an asset in a window of 1,600 pixels.
PAGE_PIXELS = 520
_MENDED = "materialise the asset again, as `candlecast run` does"


class PictureLostError(CandlecastError):
    """A picture's file is missing or damaged. The message names the file and the command that makes it again."""


class PictureFiles:
    """The files of one folder. All are named by the digest of what was stored, and written atomically."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def store_png(self, png: bytes) -> str:
        """Store a picture; returns its digest."""
        digest = digest_of_picture(png)
        return self._store(self.png(digest), png, digest)

    def store_chart(self, data: bytes) -> str:
        """Store the data of a chart; returns their digest, by which its picture will be named."""
        digest = digest_of_picture(data)
        return self._store(self.data(digest), data, digest)

    def png(self, digest: str, *, page: bool = False) -> Path:
        """The file of a picture in full size, or in that of a page."""
        return self.folder / f"{digest}{'-page' if page else ''}.png"

    def data(self, digest: str) -> Path:
        """The file of the data of a chart."""
        return self.folder / f"{digest}.json"

    def lacks(self, digest: str) -> bool:
        """Whether a picture is neither there nor can be drawn."""
        return not self.png(digest).is_file() and self._data(digest) is None

    def make(self, digest: str, *, page: bool = False) -> bytes:
        """The content of a picture, which is stored if it was not; not by two threads at a time, as styles are global.

        Raises:
            PictureLostError: neither it nor intact data are in the folder.
            ChartError: the data cannot be drawn.
        """
        file = self.png(digest, page=page)
        if file.is_file():
            return file.read_bytes()
        content = _fitted(self.make(digest)) if page else self._drawn(digest)
        try:
            publish_bytes(file, content)
        except OSError as error:
            logger.warning("not stored, and drawn again when it is asked for: %s: %s", file, error)
        return content

    def _drawn(self, digest: str) -> bytes:
        from assets.charts import draw_chart

        data = self._data(digest)
        if data is None:
            state = "damaged" if self.data(digest).is_file() else "missing"
            raise PictureLostError(f"{self.folder.name}/{self.data(digest).name} in the home is {state}: {_MENDED}")
        return draw_chart(data)

    def _data(self, digest: str) -> bytes | None:
        """The data of a chart; None: missing or damaged."""
        try:
            data = self.data(digest).read_bytes()
        except FileNotFoundError:
            return None
        return data if digest_of_picture(data) == digest else None

    def _store(self, file: Path, content: bytes, digest: str) -> str:
        if not file.is_file() or file.read_bytes() != content:
            publish_bytes(file, content)
        return digest


def digest_of_picture(content: bytes) -> str:
    """The name of what was stored: 32 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:32]


def _fitted(png: bytes) -> bytes:
    """The picture, made smaller if it is wider than a page."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        if image.width <= PAGE_PIXELS:
            return png
        smaller = image.convert("RGB").resize((PAGE_PIXELS, round(image.height * PAGE_PIXELS / image.width)))
    buffer = io.BytesIO()
    smaller.save(buffer, format="png")
    return buffer.getvalue()
