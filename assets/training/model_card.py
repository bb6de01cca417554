"""A model card as the hub shows it: README.md with its front matter, written from the card's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resources.checkpoints import PICTURES, weights_in_use

_LIBRARY = {"kronos_tokenizer": "kronos", "kronos_predictor": "kronos", "chronos2_model": "chronos-forecasting"}
_LOAD = {
    "kronos_tokenizer": "from kronos import KronosTokenizer\n\ntokenizer = KronosTokenizer.from_pretrained(folder)",
    "kronos_predictor": "from kronos import Kronos\n\nmodel = Kronos.from_pretrained(folder)",
    "chronos2_model": "from chronos import Chronos2Pipeline\n\npipeline = Chronos2Pipeline.from_pretrained(folder)",
}


def model_card(card: Mapping[str, Any]) -> str:
    """The README.md of a checkpoint."""
    kind = str(card["name"]).removeprefix("candlecast ").replace(" ", "_")
    parts = [_front(card, kind), f"# {card['name']}", _what(card), "## Load", f"```python\n{_LOAD[kind]}\n```"]
    parts += ["## Where it comes from", _provenance(card)]
    if card["scores"]:
        parts += ["## Scores", _scores(card["scores"])]
    if "candidates" in card["scores"]:
        parts += ["## Chosen by its forecasts", _candidates(card["scores"])]
    if "after_cutoff" in card["scores"]:
        parts += ["## Forecasts after the cutoff", _after_cutoff(card["scores"]["after_cutoff"])]
    if card["curves"]:
        parts += ["## Training", _training(card), f"![curves]({PICTURES[0]})"]
    parts += ["## Use", _USE]
    return "\n\n".join(parts) + "\n"


_USE = (
    "Research on probabilistic forecasts of price bars. It is no advice, and no claim of an edge: compare it with a "
    "random walk on your own data, on origins after the cutoff above."
)


def _front(card: Mapping[str, Any], kind: str) -> str:
    licence = str(card["licence"]).split(":")[0].lower()
    return f"---\nlicense: {licence}\nlibrary_name: {_LIBRARY[kind]}\ntags: [time-series, finance, forecasting]\n---"


def _what(card: Mapping[str, Any]) -> str:
    cutoff = card["cutoff"] or "not known: every forecast by it counts as in-sample"
    return f"{card['parameters']:,} parameters. Last day whose bars reached the weights: **{cutoff}**."


def _provenance(card: Mapping[str, Any]) -> str:
    base, training = card["base"], card["training"]
    lines = [
        f"- Base: {base['weights']}" + (f", revision {base['revision']}" if base["revision"] else ""),
        f"- Base digest: `{base['digest']}`, licence {base['licence']}",
    ]
    if training:
        train, validation = training["train"], training["validation"]
        lines += [
            *([f"- In use: {weights_in_use(card)}"] if card["curves"] else []),
            f"- Trained on {train['windows']:,} windows of {training['lookback']} + {training['horizon']} bars, "
            f"{train['first']} … {train['last']}, {len(training['symbols'])} symbols",
            f"- Chosen by {validation['windows']:,} windows, {validation['first']} … {validation['last']}",
            f"- Data hash: `{card['data_hash']}`",
        ]
        if "data" in training:
            lines.append(f"- Data: {training['data']}")
    if card["tokenizer"]:
        lines.append(f"- Tokenizer: `{card['tokenizer']}`")
    lines += [f"- Seed {card['seed']}, {', '.join(f'{name} {number}' for name, number in card['versions'].items())}"]
    return "\n".join(lines)


def _scores(scores: Mapping[str, Any]) -> str:
    rows = [(name, value) for name, value in scores.items() if isinstance(value, int | float)]
    for half, use in scores.get("codebook", {}).items():
        rows.append((f"codes used, {half}", use["used"]))
        rows.append((f"perplexity, {half}", use["perplexity"]))
    rows += [
        (f"reconstruction RMSE, {field}", errors["rmse"]) for field, errors in scores.get("reconstruction", {}).items()
    ]
    return "| score | value |\n| --- | --- |\n" + "\n".join(f"| {name} | {value:.4g} |" for name, value in rows)


def _candidates(scores: Mapping[str, Any]) -> str:
    rows = [
        f"| {name}{' (chosen)' if name == scores['chosen'] else ''} | {one['loss']:.4f} | {one['crps']:.3f} | "
        f"{'–' if one['rank_ic'] is None else format(one['rank_ic'], '+.3f')} | {against_base(one)} |"
        for name, one in scores["candidates"].items()
    ]
    return (
        "Forecasts of the validation range at top_p = 1: CRPS in per cent of the close, rank correlation across "
        "symbols, skill in CRPS against the base with a 90 % interval. They chose the weights, and so are no evidence "
        "of how well those do later.\n\n"
        "| weights | token loss | CRPS | RankIC | against the base |\n| --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
    )


def against_base(candidate: Mapping[str, Any]) -> str:
    """A candidate's skill against the base in words; the interval only where there were origins enough for one."""
    if "skill" not in candidate:
        return "–"
    skill = f"{candidate['skill']:+.1%}"
    return skill if candidate["low"] is None else f"{skill} ({candidate['low']:+.1%} … {candidate['high']:+.1%})"


def _after_cutoff(found: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        f"| {name} | {one['ours']:.3f} | {one['theirs']:.3f} | {one['skill']:+.1%} | {one['low']:+.1%} … "
        f"{one['high']:+.1%} | {one['forecasts']:,} of {one['symbols']} symbols, {one['origins']} origins |"
        for name, one in found.items()
    ]
    return (
        "CRPS over ten sessions in per cent of the close, 2011–2021; skill below 0: the random walk is better. 90 % "
        "intervals by block bootstrap over origins, widened for their number. The symbols are survivors of 2021.\n\n"
        "| symbols | CRPS | random walk's | skill | interval | forecasts |\n| --- | --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
    )


def _training(card: Mapping[str, Any]) -> str:
    curves = card["curves"]
    return (
        f"Lowest validation loss at step {curves['best_step']}; in use: {weights_in_use(card)}. "
        f"{curves.get('windows_per_second') or 0.0:,.0f} windows a second."
    )
