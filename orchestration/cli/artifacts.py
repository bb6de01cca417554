"""Commands on existing results: scores, backtests, the newest report, the checkpoints in use."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from assets.backtests.report.published import latest_report
from assets.evaluation.score_queries import forecast_costs
from assets.forecasting.filters import UsedCheckpoints
from assets.forecasting.model_vintages import newest_store
from assets.forecasting.verdict import REFERENCE_MODEL
from assets.training.export import export, push
from assets.training.model_card import SCORE_LABELS
from assets.training.model_selection.promotion import rollback
from orchestration.cli.instance import run_lock
from resources.checkpoints import CheckpointStore, Kind, cutoff_text
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import Settings
from resources.warehouse import Warehouse

VERDICT_LINES = 3
SHOWN_MEASURES = ("annual_return_net", "excess_return", "sharpe_net", "max_drawdown_net", "turnover", "cost")


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


def champions(checkpoints: CheckpointStore, kinds: Sequence[Kind]) -> dict[str, Any]:
    """The checkpoint in use of each kind: digest, folder, cutoff and scores."""
    used = {kind: found for kind in kinds if (found := checkpoints.current(kind))}
    shown = {
        kind: {
            "digest": one.digest,
            "folder": str(one.folder),
            "cutoff": one.card["cutoff"],
            "scores": _numbers(one.card["scores"]),
        }
        for kind, one in used.items()
    }
    lines = [
        ", ".join(
            [
                f"{kind} {one.digest[:16]}: cutoff {cutoff_text(one.card)}",
                *(
                    f"{SCORE_LABELS.get(name, name)} {value:.4g}"
                    for name, value in _numbers(one.card["scores"]).items()
                ),
            ]
        )
        for kind, one in used.items()
    ]
    return {"checkpoints": shown, "text": "\n".join(lines)}


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if isinstance(value, int | float)}


def scores_and_costs(warehouse: Warehouse, used: UsedCheckpoints) -> dict[str, Any]:
    """The CRPS over all steps of every model, and what its forecasts cost."""
    board = warehouse.frame("SELECT * FROM scoreboard WHERE metric = 'crps' AND horizon = 0 ORDER BY value")
    costs = forecast_costs(warehouse, used)
    # One row per model; the comparisons with the other baseline are in the JSON and in the table.
    against = board[board["baseline"] == REFERENCE_MODEL]
    shown = against[["model", "value", "skill", "skill_low", "skill_high", "verdict"]]
    tables = shown.to_string(index=False), costs.to_string(index=False, float_format="{:.4g}".format)
    text = "\n\n".join([f"CRPS over all steps against {REFERENCE_MODEL}", *tables])
    return {"scoreboard": board.to_dict("records"), "costs": costs.to_dict("records"), "text": text}


def backtest_measures(warehouse: Warehouse) -> dict[str, Any]:
    """The measures of every backtest, and a table of the most important ones."""
    measures = warehouse.frame("FROM backtests ORDER BY model, metric")
    wide = measures.pivot(index="model", columns="metric", values="value")
    text = wide.reindex(columns=list(SHOWN_MEASURES)).to_string(float_format="{:.3f}".format) if len(wide) else ""
    return {"measures": measures.to_dict("records"), "text": text}


def rollback_champion(settings: Settings, kind: str, to: str | None = None) -> dict[str, Any]:
    """Make the previous champion, or the checkpoint `to`, the champion again."""
    home = Home(settings.home)
    with run_lock(home):
        decision = rollback(newest_store(cast(Kind, kind), settings), cast(Kind, kind), to)
    replaced = f", in place of {decision.over[:16]}" if decision.over else ""
    text = f"{kind}: {decision.digest[:16]} is the champion{replaced}; {decision.why}"
    return {"digest": decision.digest, "replaced": decision.over, "reason": decision.why, "text": text}


def export_champion(settings: Settings, kind: str, to: Path, digest: str | None, name: str | None) -> dict[str, Any]:
    """A checkpoint as folders; with a name, on the hub too."""
    folders = export(newest_store(cast(Kind, kind), settings), cast(Kind, kind), to, digest)
    addresses = push(folders, name) if name else []
    return {
        "folders": {part: str(folder) for part, folder in folders.items()},
        "hub": addresses,
        "text": "\n".join([*map(str, folders.values()), *addresses]),
    }
