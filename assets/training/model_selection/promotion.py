"""Promotion: which checkpoint is in use for forecasts, the ledger of decisions, and rollback.

A challenger is promoted if it passes its acceptance checks and its forecasts are not shown to be worse than the
champion's on the same origins. Every decision is recorded in a ledger. `python -m
assets.training.model_selection.promotion rollback KIND` returns to the previous champion; a checkpoint that was rolled
back is not promoted again automatically, only by `rollback KIND --to DIGEST`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

from resources.checkpoints import Checkpoint, CheckpointStore, Kind
from resources.errors import CandlecastError
from resources.layout import Home
from resources.locks import exclusive_lock
from resources.profiles import load_settings
from resources.publish import publish_bytes
from resources.settings import PromotionSettings

PROMOTED: tuple[Kind, ...] = ("kronos_predictor", "chronos2_model", "volatility_model")
Action = Literal["promoted", "kept", "rolled back"]


class ComparisonEvidence(Protocol):
    """The result of comparing two checkpoints: a SkillComparison or a ComparisonOutcome."""

    @property
    def shows_better(self) -> bool: ...

    @property
    def shows_no_worse(self) -> bool: ...

    @property
    def text(self) -> str: ...

    def to_dict(self) -> dict[str, Any]: ...


Compare = Callable[[Checkpoint, Checkpoint], ComparisonEvidence]


@dataclass(frozen=True)
class PromotionDecision:
    """One entry of the ledger.

    Attributes:
        digest: the checkpoint in use after the decision.
        over: the other one: the champion that was replaced, or the challenger that was not promoted.
        why: the reason as text.
        evidence: the numbers of the comparison, if there was one.
    """

    action: Action
    digest: str
    over: str | None
    why: str
    evidence: dict[str, Any] | None = None


class PromotionLedger:
    """The promotion decisions of one kind or vintage, oldest first, in `promotions.json` beside its pointers."""

    def __init__(self, home: Home, kind: Kind, vintage: date | None = None) -> None:
        self.file = home.pointers(kind, vintage) / "promotions.json"

    def decisions(self) -> list[PromotionDecision]:
        """All entries, oldest first.

        Raises:
            CandlecastError: the file is damaged.
        """
        if not self.file.is_file():
            return []
        try:
            return [PromotionDecision(**entry) for entry in json.loads(self.file.read_text())]
        except (ValueError, TypeError) as error:
            raise CandlecastError(
                f"{self.file} is damaged: {error}. Restore it from a backup, or move it away: the checkpoint in use "
                "stays in use, and the earlier champions can no longer be rolled back to"
            ) from error

    def add(self, decision: PromotionDecision) -> None:
        """Append a decision, unless it equals the newest entry."""
        # A manual rollback and a run may write at the same moment.
        with exclusive_lock(self.file.with_suffix(".lock")):
            entries = self.decisions()
            if entries and entries[-1] == decision:
                return
            values: list[dict[str, Any]] = [asdict(entry) for entry in [*entries, decision]]
            publish_bytes(self.file, json.dumps(values, indent=1).encode())

    def rejected(self) -> set[str]:
        """The digests that were rolled back and have not been promoted since."""
        rejected: set[str] = set()
        for decision in self.decisions():
            if decision.action == "rolled back" and decision.over:
                rejected.add(decision.over)
            elif decision.action == "promoted":
                rejected.discard(decision.digest)
        return rejected


def decide(
    store: CheckpointStore,
    challenger: Checkpoint,
    problems: Sequence[str],
    settings: PromotionSettings,
    compare: Compare,
) -> PromotionDecision:
    """Promote the challenger or keep the champion, and record the reason.

    Args:
        problems: acceptance checks that the challenger fails.
        compare: compares challenger and champion by their forecasts; called only if the decision depends on it.
    """
    kind, ledger = challenger.kind, PromotionLedger(store.home, challenger.kind, store.vintage)
    champion, missing = _champion(store, ledger, kind)
    decision = _decision(champion, missing, challenger, problems, settings, compare, ledger)
    if decision is None:
        return PromotionDecision("kept", challenger.digest, None, "already in use")
    # The ledger first: if this process is killed in between, the next call applies the newest entry.
    ledger.add(decision)
    if decision.action == "promoted":
        store.set_current(kind, decision.digest)
    return decision


def rollback(store: CheckpointStore, kind: Kind, to: str | None = None) -> PromotionDecision:
    """Return to the previous champion, or to a given checkpoint.

    Args:
        to: a digest, or an unambiguous prefix of one. An earlier champion is recorded as a rollback; a checkpoint that
            was rolled back before, or never in use, as a promotion.

    Raises:
        CandlecastError: there is no earlier champion, or the given checkpoint is missing or damaged.
    """
    ledger = PromotionLedger(store.home, kind, store.vintage)
    current, missing = _champion(store, ledger, kind)
    earlier = _earlier_champions(store, ledger, kind, current)
    if to is None and not earlier:
        remedy = "choose a checkpoint with --to" if ledger.decisions() else "nothing was promoted yet"
        raise CandlecastError(f"there is no earlier champion of {kind} to roll back to: {remedy}")
    target = earlier[-1] if to is None else _load_verified(store, kind, to).digest
    if current is not None and current.digest == target:
        return PromotionDecision("kept", target, None, "already in use")
    action: Action = "rolled back" if target in earlier else "promoted"
    # A missing champion is not recorded as replaced: rebuilt, it may challenge again.
    why = f"manual; the checkpoint in use, {missing[:16]}, is missing" if missing else "manual"
    decision = PromotionDecision(action, target, current.digest if current else None, why)
    ledger.add(decision)
    store.set_current(kind, decision.digest)
    return decision


def expiry_problem(champion: Checkpoint, newest: date, settings: PromotionSettings) -> str | None:
    """Why a champion has expired, given the day of the newest bar; none: it has not."""
    if settings.expires_days is None:
        return None
    if champion.cutoff is None:
        return (
            f"the cutoff of {champion.kind} is unknown, and so is its age: use weights with a known cutoff, or leave "
            "promotion.expires_days out"
        )
    until = champion.cutoff + timedelta(days=settings.expires_days)
    if newest <= until:
        return None
    return (
        f"{champion.kind} has the cutoff {champion.cutoff} and expired after {until}, the newest bar is of {newest}: "
        "move windows.train and windows.validation forward and train again, or raise promotion.expires_days"
    )


def _champion(store: CheckpointStore, ledger: PromotionLedger, kind: Kind) -> tuple[Checkpoint | None, str | None]:
    """The checkpoint in use after the newest ledger entry is applied, or the digest of one that is missing.

    Both are none if no checkpoint is in use yet.
    """
    in_use = store.current_digest(kind)
    changes = [entry.digest for entry in ledger.decisions() if entry.action in ("promoted", "rolled back")]
    decided = changes[-1] if changes else in_use
    if decided is None:
        return None, None
    if not store.has(kind, decided):
        return None, decided
    return (store.load(kind, decided) if decided == in_use else store.set_current(kind, decided)), None


def _earlier_champions(
    store: CheckpointStore, ledger: PromotionLedger, kind: Kind, current: Checkpoint | None
) -> list[str]:
    """The digests that were promoted before, were not rolled back since and still exist, the newest last."""
    rejected = ledger.rejected()
    return [
        entry.digest
        for entry in ledger.decisions()
        if entry.action == "promoted"
        and entry.digest not in rejected
        and (current is None or entry.digest != current.digest)
        and store.has(kind, entry.digest)
    ]


def _load_verified(store: CheckpointStore, kind: Kind, digest: str) -> Checkpoint:
    """A checkpoint, and its tokenizer if it has one: both exist and match their digests."""
    checkpoint = store.load(kind, digest)
    if checkpoint.card.get("tokenizer"):
        store.load("kronos_tokenizer", checkpoint.card["tokenizer"])
    return checkpoint


def _decision(
    champion: Checkpoint | None,
    missing: str | None,
    challenger: Checkpoint,
    problems: Sequence[str],
    settings: PromotionSettings,
    compare: Compare,
    ledger: PromotionLedger,
) -> PromotionDecision | None:
    """The decision; none if the challenger is already the champion."""
    if champion is not None and champion.digest == challenger.digest:
        return None
    kept = champion.digest if champion else ""
    if problems:
        return PromotionDecision("kept", kept, challenger.digest, "; ".join(problems))
    if challenger.digest in ledger.rejected():
        why = f"the challenger was rolled back before; `candlecast rollback {challenger.kind} --to DIGEST` undoes that"
        return PromotionDecision("kept", kept, challenger.digest, why)
    if champion is None:
        why = f"the checkpoint in use, {missing[:16]}, is missing" if missing else "the first of its kind"
        return PromotionDecision("promoted", challenger.digest, missing, why)
    if settings.rule == "always" or challenger.kind == "kronos_tokenizer":
        return PromotionDecision("promoted", challenger.digest, champion.digest, "the newest is used")
    evidence = compare(challenger, champion)
    is_promoted = evidence.shows_better if settings.rule == "better" else evidence.shows_no_worse
    action: Action = "promoted" if is_promoted else "kept"
    winner, loser = (challenger, champion) if is_promoted else (champion, challenger)
    return PromotionDecision(action, winner.digest, loser.digest, evidence.text, evidence.to_dict())


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: show the ledger of a kind, or roll back."""
    parser = argparse.ArgumentParser(prog="python -m assets.training.model_selection.promotion", description=__doc__)
    parser.add_argument("action", choices=["show", "rollback"])
    parser.add_argument("kind", choices=PROMOTED)
    parser.add_argument("--to", metavar="DIGEST", help="rollback: to this checkpoint instead of the previous champion")
    parser.add_argument("--settings", type=Path)
    parser.add_argument("--profile")
    given = parser.parse_args(argv)
    try:
        home = Home(load_settings(given.settings, given.profile).home)
        if given.action == "rollback":
            rollback(CheckpointStore(home), given.kind, given.to)
    except CandlecastError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    decisions = [asdict(decision) for decision in PromotionLedger(home, given.kind).decisions()]
    sys.stdout.write(json.dumps(decisions, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
