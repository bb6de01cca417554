"""Commands on existing results: the newest report, lineage, the champion's checkpoint, the market tables."""

from pathlib import Path
from typing import Any, cast

from assets.backtests.report.publish import latest_report
from assets.training.export import export, push
from assets.training.model_selection.promotion import rollback
from orchestration.build import build_defs
from orchestration.cli.instance import open_instance, run_lock
from orchestration.lineage import Lineage, Node
from resources.candlecast import Candlecast
from resources.checkpoints import CheckpointStore, Kind
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import Settings

VERDICT_LINES = 3


def newest_report(settings: Settings) -> dict[str, Any]:
    """Path, digest and the first lines of the verdict of the newest report.

    Raises:
        CandlecastError: there is none yet, or it cannot be read.
    """
    home = Home(settings.home)
    report = latest_report(home)
    if report is None:
        raise CandlecastError(f"no report in {home.reports} yet: `candlecast run` creates one")
    verdict = [str(line) for line in report.summary["verdict"]][:VERDICT_LINES]
    text = "\n".join(
        ["", *verdict, "", f"report: {report.html}", "to open the graph: make ui, then http://127.0.0.1:3000"]
    )
    return {"report": str(report.html), "digest": report.digest, "verdict": verdict, "text": text}


def lineage_of(settings: Settings, name: str) -> Node:
    """The lineage of an asset, or of a digest."""
    candlecast, defs = Candlecast(settings), build_defs(settings=settings)
    with open_instance(settings) as instance:
        return Lineage(candlecast.home, candlecast.warehouse, candlecast.checkpoints, defs, instance).of(name)


def rollback_champion(settings: Settings, kind: str, to: str | None = None) -> dict[str, Any]:
    """Make the previous champion, or the checkpoint `to`, the champion again."""
    home = Home(settings.home)
    with run_lock(home):
        decision = rollback(CheckpointStore(home), cast(Kind, kind), to)
    replaced = f", in place of {decision.over[:16]}" if decision.over else ""
    text = f"{kind}: {decision.digest[:16]} is the champion{replaced}; {decision.why}"
    return {"digest": decision.digest, "replaced": decision.over, "reason": decision.why, "text": text}


def export_champion(settings: Settings, kind: str, to: Path, digest: str | None, name: str | None) -> dict[str, Any]:
    """A checkpoint as folders; with a name, on the hub too."""
    folders = export(CheckpointStore(Home(settings.home)), cast(Kind, kind), to, digest)
    addresses = push(folders, name) if name else []
    return {
        "folders": {part: str(folder) for part, folder in folders.items()},
        "hub": addresses,
        "text": "\n".join([*map(str, folders.values()), *addresses]),
    }
