"""Publishing of the report: a folder named by the digest of its contents, and a pointer to the newest report."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assets.backtests.measures import by_model
from assets.backtests.report.contents import ReportContents
from assets.backtests.report.formatting import typeset
from assets.backtests.report.page import ReportPage, compose
from assets.backtests.report.published import HTML_FILE, JSON_FILE, LATEST_FILE, PublishedReport
from assets.backtests.report.risk import risk_records
from assets.backtests.results import digest_of_frame
from resources.integrity import keep_if_intact
from resources.layout import Home
from resources.pointers import write_pointer
from resources.publish import digest_of, publishing_folder

HERE = Path(__file__).parent


def publish_report(contents: ReportContents, home: Home) -> PublishedReport:
    """Write the report of these contents unless it exists, and point `latest.json` to it."""
    digest = digest_of({"contents": fingerprint(contents), "code": _code_digest()})
    folder = home.reports / digest
    created = not keep_if_intact(folder, home.root)
    if created:
        page = compose(contents, digest)
        with publishing_folder(folder, home.scratch / "reports") as scratch:
            (scratch / HTML_FILE).write_text(render(page), encoding="utf-8")
            (scratch / JSON_FILE).write_text(_summary(page, contents), encoding="utf-8")
            for name, png in page.images.items():
                (scratch / name).write_bytes(png)
    write_pointer(home.reports / LATEST_FILE, digest, report=f"{digest}/{HTML_FILE}")
    return PublishedReport(digest, folder, created)


def render(page: ReportPage) -> str:
    """The page as one self-contained HTML document."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["typeset"] = typeset
    css = Markup((HERE / "report.css").read_text(encoding="utf-8"))
    return environment.get_template("report.html").render(page=page, css=css)


def fingerprint(value: Any) -> Any:
    """A value as plain JSON, for a digest: frames and arrays are replaced by their digests."""
    if isinstance(value, pd.DataFrame):
        return digest_of_frame(value)
    if isinstance(value, np.ndarray):
        return hashlib.sha256(str(value.dtype).encode() + np.ascontiguousarray(value).tobytes()).hexdigest()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.name not in NOT_FINGERPRINTED]
        return {name: fingerprint(getattr(value, name)) for name in fields}
    if isinstance(value, Mapping):
        return {str(key): fingerprint(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [fingerprint(own) for own in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


# Not part of the contents: the location of a folder, and whether this run computed the backtest.
NOT_FINGERPRINTED = frozenset({"folder", "simulated"})


def _code_digest() -> str:
    files = sorted(file for file in HERE.iterdir() if file.suffix in (".py", ".sql", ".html", ".css"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _summary(page: ReportPage, contents: ReportContents) -> str:
    summary = {
        "digest": page.digest,
        "verdict": [page.headline, page.backtest_verdict, *page.verdict],
        "facts": {fact.name: fact.value for fact in page.facts},
        "backtests": by_model(contents.backtest.measures) if len(contents.backtest.measures) else {},
        "backtest_recipe": contents.backtest.recipe,
        "risk": risk_records(contents.risk),
        "checkpoints": {checkpoint.kind: checkpoint.digest for checkpoint in contents.checkpoints},
        "vintages": {kind: [one.digest for one in found] for kind, found in contents.vintages},
        "forecasts_by": dict(contents.used),
        "qlib_provider": contents.provider,
        "rows": dict(contents.rows),
        "versions": dict(contents.versions),
        "revision": contents.revision,
        "settings": contents.settings,
    }
    return json.dumps(summary, indent=1, ensure_ascii=False, default=str) + "\n"
