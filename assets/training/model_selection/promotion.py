"""Champion and challenger: which checkpoint forecasts are made with, who decided it, and the way back.

A challenger takes over when it is sound and its forecasts are not shown to be worse than the champion's on the same
origins. Every decision is written down. `python -m assets.training.model_selection.promotion rollback KIND` goes
back to the champion before; what was rolled back is not promoted again by itself, but by `rollback KIND --to DIGEST`.
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

from resources.checkpoints import UNNAMED, Checkpoint, CheckpointStore, Kind
from resources.errors import CandlecastError
from resources.layout import Home
from resources.locks import exclusive_lock
from resources.profiles import load_settings
from resources.publish import digest_of_folder, publish_bytes
from resources.settings import PromotionSettings

PROMOTED: tuple[Kind, ...] = ("kronos_predictor", "chronos2_model")
Action = Literal["promoted", "kept", "rolled back"]


class Verdict(Protocol):
    """What a comparison of two checkpoints showed: a Comparison, or a contest's Outcome."""

    @property
    def shows_better(self) -> bool: ...

    @property
    def shows_no_worse(self) -> bool: ...

    @property
    def words(self) -> str: ...

    def to_dict(self) -> dict[str, Any]: ...


Judge = Callable[[Checkpoint, Checkpoint], Verdict]


@dataclass(frozen=True)
class Decision:
    """One line of the ledger.

    Attributes:
        digest: the checkpoint in use from now on.
        over: the other one: who was replaced, or who challenged in vain.
        why: in words.
        evidence: the comparison, where there was one.
    """

    action: Action
    digest: str
    over: str | None
    why: str
    evidence: dict[str, Any] | None = None


class Ledger:
    """The decisions about one kind, oldest first, in `promotions.json` beside its checkpoints."""

    def __init__(self, home: Home, kind: Kind) -> None:
        self.file = home.checkpoints / kind / "promotions.json"

    def decisions(self) -> list[Decision]:
        """What is written there.

        Raises:
            CandlecastError: it is damaged.
        """
        if not self.file.is_file():
            return []
        try:
            return [Decision(**entry) for entry in json.loads(self.file.read_text())]
        except (ValueError, TypeError) as error:
            raise CandlecastError(
                f"{self.file} is damaged: {error}. Bring it back from a copy, or move it away: what is in use stays in "
                "use, and the way back before it is lost"
            ) from error

    def add(self, decision: Decision) -> None:
        """Write a decision down, unless the newest says the same."""
        # A rollback by hand and a run that decides may write at the same moment.
        with exclusive_lock(self.file.with_suffix(".lock")):
            told = self.decisions()
            if told and told[-1] == decision:
                return
            entries: list[dict[str, Any]] = [asdict(entry) for entry in [*told, decision]]
            publish_bytes(self.file, json.dumps(entries, indent=1).encode())

    def rejected(self) -> set[str]:
        """What was rolled back and has not been promoted since."""
        gone: set[str] = set()
        for decision in self.decisions():
            if decision.action == "rolled back" and decision.over:
                gone.add(decision.over)
            elif decision.action == "promoted":
                gone.discard(decision.digest)
        return gone


def decide(
    store: CheckpointStore,
    challenger: Checkpoint,
    sound: Sequence[str],
    settings: PromotionSettings,
    judge: Judge,
) -> Decision:
    """Put the challenger in use, or keep the champion, and write down why.

    Args:
        sound: what is wrong with the challenger; empty: nothing.
        judge: compares challenger and champion by their forecasts; called only when that decides.
    """
    kind, ledger = challenger.kind, Ledger(store.home, challenger.kind)
    champion, gone = _champion(store, ledger, kind)
    decision = _decision(champion, gone, challenger, sound, settings, judge, ledger)
    if decision is None:
        return Decision("kept", challenger.digest, None, "in use already")
    # The ledger first: what it says is put to use at the next call, should this one be killed in between.
    ledger.add(decision)
    if decision.action == "promoted":
        store.set_current(kind, decision.digest)
    return decision


def rollback(store: CheckpointStore, kind: Kind, to: str | None = None) -> Decision:
    """Put the champion before the present one in use again, or a checkpoint that is named.

    Args:
        to: a digest, or an unambiguous beginning of one. What was rolled back before is promoted again, and what was
            in use may come back; an earlier champion is gone back to as without a name.

    Raises:
        CandlecastError: there was none; what is named is not there, or not whole.
    """
    ledger = Ledger(store.home, kind)
    now, gone = _champion(store, ledger, kind)
    earlier = _earlier(store, ledger, kind, now)
    if to is None and not earlier:
        remedy = "name a checkpoint with --to" if ledger.decisions() else "nothing was promoted yet"
        raise CandlecastError(f"there is no earlier champion of {kind} to go back to: {remedy}")
    target = earlier[-1] if to is None else _whole(store, kind, to).digest
    if now is not None and now.digest == target:
        return Decision("kept", target, None, "in use already")
    action: Action = "rolled back" if target in earlier else "promoted"
    # What is gone was not turned down: made again, it may challenge.
    why = f"by hand; what was in use, {gone[:16]}, is gone" if gone else "by hand"
    decision = Decision(action, target, now.digest if now else None, why)
    ledger.add(decision)
    store.set_current(kind, decision.digest)
    return decision


def expired(champion: Checkpoint, newest: date, settings: PromotionSettings) -> str | None:
    """What is wrong when a champion's weights have grown too old for the newest bar; None: nothing."""
    if settings.expires_days is None:
        return None
    if champion.cutoff is None:
        return (
            f"{champion.kind} does not say up to which day it learnt, so its age is not known: use weights that do, or "
            "leave promotion.expires_days out"
        )
    until = champion.cutoff + timedelta(days=settings.expires_days)
    if newest <= until:
        return None
    return (
        f"{champion.kind} learnt up to {champion.cutoff} and was good until {until}, the newest bar is of {newest}: "
        "move windows.train and windows.validation on and train again, or raise promotion.expires_days"
    )


def _champion(store: CheckpointStore, ledger: Ledger, kind: Kind) -> tuple[Checkpoint | None, str | None]:
    """The checkpoint in use, once what the ledger decided last has been put to use; or the digest of one that is gone.

    Both are none where nothing is in use yet.
    """
    used = store.current_digest(kind)
    changes = [entry.digest for entry in ledger.decisions() if entry.action in ("promoted", "rolled back")]
    wanted = changes[-1] if changes else used
    if wanted is None:
        return None, None
    if not store.has(kind, wanted):
        return None, wanted
    return (store.load(kind, wanted) if wanted == used else store.set_current(kind, wanted)), None


def _earlier(store: CheckpointStore, ledger: Ledger, kind: Kind, now: Checkpoint | None) -> list[str]:
    """What was promoted before, was not turned down since and is still there; the last of it last."""
    rejected = ledger.rejected()
    return [
        entry.digest
        for entry in ledger.decisions()
        if entry.action == "promoted"
        and entry.digest not in rejected
        and (now is None or entry.digest != now.digest)
        and store.has(kind, entry.digest)
    ]


def _whole(store: CheckpointStore, kind: Kind, named: str) -> Checkpoint:
    """A checkpoint whose files are those that its digest names, with its tokenizer if it has one."""
    found = store.load(kind, named)
    if digest_of_folder(found.folder, UNNAMED) != found.digest:
        raise CandlecastError(
            f"{found.folder} is damaged, its files are not those that its digest names: bring it back from a copy"
        )
    if found.card.get("tokenizer"):
        store.load("kronos_tokenizer", found.card["tokenizer"])
    return found


def _decision(
    champion: Checkpoint | None,
    gone: str | None,
    challenger: Checkpoint,
    wrong: Sequence[str],
    settings: PromotionSettings,
    judge: Judge,
    ledger: Ledger,
) -> Decision | None:
    if champion is not None and champion.digest == challenger.digest:
        return None
    if wrong:
        return Decision("kept", champion.digest if champion else "", challenger.digest, "; ".join(wrong))
    if challenger.digest in ledger.rejected():
        why = f"the challenger was rolled back before; `candlecast rollback {challenger.kind} --to DIGEST` undoes that"
        return Decision("kept", champion.digest if champion else "", challenger.digest, why)
    if champion is None:
        why = f"what was in use, {gone[:16]}, is gone: nothing to compare with" if gone else "the first of its kind"
        return Decision("promoted", challenger.digest, gone, why)
    if settings.rule == "always" or challenger.kind == "kronos_tokenizer":
        return Decision("promoted", challenger.digest, champion.digest, "the newest is used")
    found = judge(challenger, champion)
    good = found.shows_better if settings.rule == "better" else found.shows_no_worse
    action: Action = "promoted" if good else "kept"
    winner, loser = (challenger, champion) if good else (champion, challenger)
    return Decision(action, winner.digest, loser.digest, found.words, found.to_dict())


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: show the ledger of a kind, or go back."""
    parser = argparse.ArgumentParser(prog="python -m assets.training.model_selection.promotion", description=__doc__)
    parser.add_argument("action", choices=["show", "rollback"])
    parser.add_argument("kind", choices=PROMOTED)
    parser.add_argument("--to", metavar="DIGEST", help="rollback: this one, in place of the champion before")
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
    told = [asdict(decision) for decision in Ledger(home, given.kind).decisions()]
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
