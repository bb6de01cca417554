"""Lineage: what an asset, or anything that has a digest, was made from, back to the source files.

Read from what the stages store anyway: model cards, manifests, payload provenance, and Dagster's records.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from assets.forecasts.catalogue import columns_read
from orchestration.materialisations import Record, Records
from resources.candlecast import Candlecast
from resources.checkpoints import Checkpoint, Kind
from resources.errors import CandlecastError
from resources.sql import load_sql

_PAYLOADS = load_sql("orchestration", "lineage_payloads.sql")
_FORECASTS = load_sql("orchestration", "lineage_forecasts.sql")
_FORECAST_ROWS = load_sql("orchestration", "lineage_forecast_rows.sql")
_ALL_BARS: Mapping[str, object] = {"symbols": None, "last": None, "used": True}


@dataclass
class Node:
    """A node of the lineage tree: name, facts, and the nodes that it was made from."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    sources: list["Node"] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The tree as JSON values."""
        return {"name": self.name, **self.facts, "made_from": [node.as_json() for node in self.sources]}


@dataclass(frozen=True)
class Lineage:
    """The lineage of what one home folder holds."""

    candlecast: Candlecast
    records: Records

    def of(self, name: str) -> Node:
        """The lineage of an asset by name, of a forecast, or of anything by its digest.

        Args:
            name: an asset, MODEL/SYMBOL/ORIGIN with the session or the time of the origin, or a prefix of a digest of
                at least 8 characters.

        Raises:
            CandlecastError: nothing has that name or digest.
        """
        if next(self.records.newest_first(name), None) is not None:
            return self._asset(name, None, set())
        found = list(self._forecast_rows(name))
        found = found or (list(self._by_digest(name)) if len(name) >= 8 else [])
        if not found:
            # Last, as the graph of the code location takes the longest to read.
            if name in (assets := self.records.parents()):
                return self._asset(name, None, set())
            known = ", ".join(assets)
            raise CandlecastError(
                f"{name!r} is neither an asset, nor a prefix (at least 8 characters) of a digest, nor the forecast "
                f"MODEL/SYMBOL/ORIGIN, such as kronos/IBM/2012-06-01; assets: {known}"
            )
        return _without_repeats(found[0] if len(found) == 1 else Node(name, {}, found), set())

    def _asset(
        self, name: str, version: str | None, seen: set[tuple[str, str | None]], before: int | None = None
    ) -> Node:
        """The tree of an asset at one data version; none: the newest.

        Args:
            before: the number of the record that read it; none: as of now.
        """
        found = self._recorded(name, version, before)
        key = (name, found.version if found else version)
        if key in seen:
            return Node(name, {"data_version": key[1], "see": "above"})
        seen.add(key)
        node = Node(name, found.facts if found else {"state": _missing_state(version)})
        if name in get_args(Kind):
            weights = {one.digest: one for one in self.candlecast.checkpoints.all(name)}  # type: ignore[arg-type]
            if key[1] in weights:
                node.facts |= _card_facts(weights[key[1]])
        if name == "raw_bars":
            node.sources = self._payloads()
            return node
        parents = sorted(found.inputs) if found else self.records.parents().get(name, [])
        inputs, read_by = (found.inputs, found.number) if found else ({}, before)
        node.sources = [self._asset(parent, inputs.get(parent), seen, read_by) for parent in parents]
        return node

    def _recorded(self, name: str, version: str | None, before: int | None) -> Record | None:
        """The record of the run that made one data version of an asset; none: its newest version.

        Of runs with an equal version: the last one before the record that read it, else the first of the newest ones,
        as later ones may have read other inputs.

        Args:
            before: the number of the record that read it; none: as of now.
        """
        made: Record | None = None
        for record in self.records.newest_first(name, before):
            if record.version == (version or record.version):
                # One session of a run has the metadata of all.
                known = made.reads if made is not None and made.run == record.run else ()
                made, version = replace(record, reads=record.reads or known), record.version
                if before is not None:
                    return made
            elif made is not None:
                return made
        return made

    def _forecast_rows(self, name: str) -> Iterator[Node]:
        """The forecasts of a model for a symbol from an origin, the newest first: one per checkpoint and origin."""
        model, _, rest = name.partition("/")
        symbol, _, origin = rest.rpartition("/")
        if not (model and symbol and origin):
            return
        key: dict[str, object] = {"model": model, "symbol": symbol, "origin": origin.replace("T", " ")}
        for row in self.candlecast.warehouse.rows(_FORECAST_ROWS, key):
            known = {fact: str(value) for fact, value in row.items() if value != ""}
            facts = {fact: value for fact, value in known.items() if fact not in ("weights", "recipe")}
            facts["reads"] = columns_read(row["model"], row["recipe"])
            facts["forward"] = str(self._is_forward(row))
            weights = [self._weights(str(row["weights"]))] if row["weights"] else []
            bars = self._bars([str(row["symbol"])], row["origin"])
            yield Node(f"forecast {model}/{row['symbol']}/{row['origin']}", facts, [*weights, bars])

    def _is_forward(self, row: Mapping[str, Any]) -> bool:
        """Whether a forecast was made before the session of its first target began."""
        import numpy as np

        from assets.forecasting.origins import forward_steps

        origin, made_at = (np.array([row[name]], dtype="datetime64[us]") for name in ("origin", "made_at"))
        return bool(forward_steps(origin, made_at, 1, self.candlecast.calendar)[0, 0])

    def _by_digest(self, digest: str) -> Iterator[Node]:
        for kind in get_args(Kind):
            for checkpoint in self.candlecast.checkpoints.all(kind):
                if checkpoint.digest.startswith(digest):
                    yield self._checkpoint(checkpoint)
        # The checkpoint of a forecast begins with the digest of its weights.
        for row in self.candlecast.warehouse.rows(_FORECASTS):
            if str(row["checkpoint"]).startswith(digest):
                yield self._forecasts(row)
        for node in self._payloads({**_ALL_BARS, "used": False}):
            if node.facts["payload_sha256"].startswith(digest):
                yield node
        for root, what in (
            (self.candlecast.home.windows, "training windows"),
            (self.candlecast.home.qlib, "Qlib provider"),
        ):
            for folder in _with_prefix(root, digest):
                yield Node(f"{what} {folder.name}", {"folder": str(folder)}, [self._bars()])
        for folder in _with_prefix(self.candlecast.home.reports, digest):
            yield self._report(folder.name)

    def _checkpoint(self, checkpoint: Checkpoint) -> Node:
        card = checkpoint.card
        node = Node(f"{checkpoint.kind} {checkpoint.digest}", _card_facts(checkpoint))
        if card.get("tokenizer"):
            node.sources.append(
                self._checkpoint(self.candlecast.checkpoints.load("kronos_tokenizer", card["tokenizer"]))
            )
        if card.get("data_hash"):
            training = card.get("training") or {}
            cutoff = f"{card['cutoff']} 23:59:59" if card.get("cutoff") else None
            bars = self._bars(training.get("symbols"), cutoff)
            node.sources.append(Node(f"training windows {card['data_hash']}", {}, [bars]))
        return node

    def _forecasts(self, row: Mapping[str, Any]) -> Node:
        """Forecasts of one model by one recipe, with the weights, their tokenizer and windows, and the bars."""
        facts = {str(key): str(value) for key, value in row.items() if value != "" and key != "recipe"}
        facts["reads"] = columns_read(row["model"], row["recipe"])
        node = Node(f"forecasts of {row['model']} by {row['checkpoint']}", facts)
        if row["weights"]:
            node.sources.append(self._weights(str(row["weights"])))
        node.sources.append(self._bars())
        return node

    def _weights(self, digest: str) -> Node:
        for kind in get_args(Kind):
            for checkpoint in self.candlecast.checkpoints.all(kind):
                if checkpoint.digest == digest:
                    return self._checkpoint(checkpoint)
        return Node(f"weights {digest}", {"state": "no longer in the store"})

    def _report(self, digest: str) -> Node:
        from assets.forecasting.filters import checkpoint_pairs

        folder = self.candlecast.home.reports / digest
        report = json.loads((folder / "report.json").read_text())
        facts = {"file": str(folder / "report.html"), "backtest_recipe": str(report.get("backtest_recipe") or "–")}
        made = {(row["model"], row["checkpoint"]): row for row in self.candlecast.warehouse.rows(_FORECASTS)}
        # Without the number of forecasts, which is today's and not that of the report's day.
        made = {
            used: {key: row[key] for key in ("model", "checkpoint", "weights", "recipe")} for used, row in made.items()
        }
        forecasts = [
            self._forecasts(made[used]) if used in made else Node(f"forecasts of {used[0]} by {used[1]}")
            for used in checkpoint_pairs(report.get("forecasts_by", {}))
        ]
        weights = [
            self._checkpoint(self.candlecast.checkpoints.load(kind, name))
            for kind, name in report["checkpoints"].items()
        ]
        provider = Node(f"Qlib provider {report.get('qlib_provider') or '–'}", {}, [self._bars()])
        return Node(f"report {digest}", facts, [*forecasts, *weights, provider, self._bars()])

    def _bars(self, symbols: Sequence[str] | None = None, last: object = None) -> Node:
        """The bars of some symbols up to a day or time, with the payloads that they came from; None: all."""
        facts = {"symbols": ", ".join(symbols) if symbols else None, "last": str(last) if last else None}
        return Node(
            "bars" + "".join(f" {value}" for value in facts.values() if value),
            {},
            self._payloads({**_ALL_BARS, "symbols": symbols, "last": last}),
        )

    def _payloads(self, parameters: Mapping[str, object] = _ALL_BARS) -> list[Node]:
        """The payloads of bars. `used`: only those that bars of these symbols, up to `last`, came from."""
        rows = self.candlecast.warehouse.rows(_PAYLOADS, dict(parameters))
        return [Node(f"file {row['file']}", {str(key): str(value) for key, value in row.items()}) for row in rows]


def _with_prefix(root: Path, digest: str) -> list[Path]:
    # Not with glob(digest): the argument may be a path or contain wildcards.
    return sorted(folder for folder in root.glob("*") if folder.is_dir() and folder.name.startswith(digest))


def _without_repeats(node: Node, seen: set[str]) -> Node:
    """The tree with repeated nodes reduced to their name."""
    if node.name in seen:
        return Node(node.name, {"see": "above"})
    seen.add(node.name)
    return Node(node.name, node.facts, [_without_repeats(source, seen) for source in node.sources])


def _missing_state(version: str | None) -> str:
    return "never materialised" if version is None else f"version {version} is no longer in Dagster's records"


def _card_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    card = checkpoint.card
    facts = {
        key: card[key]
        for key in ("licence", "cutoff", "cutoff_basis", "data_hash", "seed")
        if card.get(key) is not None
    }
    base = card.get("base") or {}
    revision = f", revision {base['revision']}" if base.get("revision") else ""
    named = {"base": f"{base['weights']}{revision}"} if base.get("weights") else {}
    if named and base.get("digest"):
        named["base_digest"] = base["digest"]
    return {"digest": checkpoint.digest, **named, **facts}
