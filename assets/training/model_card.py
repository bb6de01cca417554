"""Model cards in the format of the Hugging Face Hub: README.md with front matter, rendered from card.json."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resources.checkpoints import CARD, PICTURES, README, cutoff_text, weights_in_use

_LIBRARY = {
    "kronos_tokenizer": "kronos",
    "kronos_predictor": "kronos",
    "chronos2_model": "chronos-forecasting",
    "volatility_model": "candlecast",
}
_LOAD = {
    "kronos_tokenizer": "from kronos import KronosTokenizer\n\ntokenizer = KronosTokenizer.from_pretrained(folder)",
    "kronos_predictor": "from kronos import Kronos\n\nmodel = Kronos.from_pretrained(folder)",
    "chronos2_model": "from chronos import Chronos2Pipeline\n\npipeline = Chronos2Pipeline.from_pretrained(folder)",
    "volatility_model": "from assets.forecasting.volatility.regression import VolatilityWeights\n\n"
    "weights = VolatilityWeights.load(folder)",
}


SCORE_LABELS = {
    "loss": "validation loss",
    "base_loss": "validation loss before training",
    "crps": "CRPS, % of the close",
    "rank_ic": "RankIC",
    "baseline_crps": "CRPS of random_walk_ewma, % of the close",
    "skill": "CRPS skill against random_walk_ewma",
    "skill_low": "lower end of its 90 % interval",
    "skill_high": "upper end of its 90 % interval",
}


def render_model_card(card: Mapping[str, Any]) -> str:
    """The README.md of a checkpoint, from the content of its card.json."""
    kind = str(card["name"]).removeprefix("candlecast ").replace(" ", "_")
    parts = [
        _front_matter(card, kind),
        f"# {card['name']}",
        _summary(card),
        "## Load",
        f"```python\n{_LOAD[kind]}\n```",
    ]
    parts += ["## Provenance", _provenance(card)]
    if card["scores"]:
        parts += ["## Scores", _scores(card["scores"])]
    if "candidates" in card["scores"]:
        parts += ["## Selection by forecasts", _candidates(card["scores"])]
    if "after_cutoff" in card["scores"]:
        parts += ["## Out-of-sample forecasts", _after_cutoff(card["scores"]["after_cutoff"])]
    if card["curves"]:
        parts += ["## Training", _training(card), f"![curves]({PICTURES[0]})"]
    parts += ["## Intended use", _INTENDED_USE]
    return "\n\n".join(parts) + "\n"


def card_text(readme: str) -> str:
    """A README.md without front matter and pictures, whose files stand beside it alone."""
    body = readme.split("---\n", 2)[-1]
    return re.sub(r"^!\[[^\]]*\]\([^)]*\)\n?", "", body, flags=re.MULTILINE)


_INTENDED_USE = (
    "Research on probabilistic forecasts of price bars. Not investment advice, and no claim of an edge over a random "
    "walk: compare the two on your own data, on origins after the cutoff above."
)


def update_card(folder: Path, note: str | None = None, **sections: dict[str, Any]) -> None:
    """Add a note, and values of sections, to a packaged card.json and render its README.md. The digest stays."""
    card = json.loads((folder / CARD).read_text())
    for name, values in sections.items():
        card[name] |= values
    if note:
        card["note"] = note
    (folder / CARD).write_text(json.dumps(card, indent=1))
    (folder / README).write_text(render_model_card(card))


def _front_matter(card: Mapping[str, Any], kind: str) -> str:
    licence = str(card["licence"]).split(":")[0].lower()
    return f"---\nlicense: {licence}\nlibrary_name: {_LIBRARY[kind]}\ntags: [time-series, finance, forecasting]\n---"


def _summary(card: Mapping[str, Any]) -> str:
    note = f" {card['note']}" if card.get("note") else ""
    return (
        f"{card['parameters']:,} parameters. Cutoff, the last day whose bars influenced the weights: "
        f"**{cutoff_text(card)}**.{note}"
    )


def _provenance(card: Mapping[str, Any]) -> str:
    base, training = card["base"], card["training"]
    lines = [
        f"- Base: {base['weights']}" + (f", revision {base['revision']}" if base["revision"] else ""),
        f"- Base digest: `{base['digest']}`, licence {base['licence']}",
    ]
    if training:
        train, validation = training["train"], training["validation"]
        lines += [
            *([f"- Weights used: {weights_in_use(card)}"] if card["curves"] else []),
            f"- Trained on {train['windows']:,} windows of {training['lookback']} + {training['horizon']} bars, "
            f"{train['first']} … {train['last']}, {len(training['symbols'])} symbols",
            f"- Selected on {validation['windows']:,} validation windows, {validation['first']} … {validation['last']}",
            f"- Data hash: `{card['data_hash']}`",
        ]
        if "fill" in training:
            lines.append(f"- Missing bars: {training['fill']['rule']}, at most {training['fill']['limit']} in a row")
        if "events" in training:
            lines.append(f"- Training windows with an event: {training['events']}")
        if "data" in training:
            lines.append(f"- Data: {training['data']}")
    if "missing_volume" in card.get("normalisation", {}):
        lines.append(f"- Missing volume and amount: {card['normalisation']['missing_volume']}")
    if card["tokenizer"]:
        lines.append(f"- Tokenizer: `{card['tokenizer']}`")
    lines += [f"- Seed {card['seed']}, {', '.join(f'{name} {number}' for name, number in card['versions'].items())}"]
    return "\n".join(lines)


def _scores(scores: Mapping[str, Any]) -> str:
    rows = [(SCORE_LABELS.get(name, name), value) for name, value in scores.items() if isinstance(value, int | float)]
    for half, use in scores.get("codebook", {}).items():
        rows.append((f"{half} codes in use", use["used"]))
        rows.append((f"{half} perplexity", use["perplexity"]))
    rows += [
        (f"{field} reconstruction RMSE", errors["rmse"]) for field, errors in scores.get("reconstruction", {}).items()
    ]
    return "| score | value |\n| --- | --- |\n" + "\n".join(f"| {name} | {value:.4g} |" for name, value in rows)


def _candidates(scores: Mapping[str, Any]) -> str:
    rows = [
        f"| {name}{' (selected)' if name == scores['chosen'] else ''} | {candidate['loss']:.4f} | "
        f"{candidate['crps']:.3f} | "
        f"{'–' if candidate['rank_ic'] is None else format(candidate['rank_ic'], '+.3f')} | {skill_text(candidate)} |"
        for name, candidate in scores["candidates"].items()
    ]
    return (
        "Forecasts of the validation range at top_p = 1: CRPS in percent of the close, rank correlation across symbols "
        "(RankIC), CRPS skill against the base with a 90 % interval. The weights were selected by these scores, so "
        "they are no estimate of later performance.\n\n"
        "| weights | token loss | CRPS | RankIC | skill against the base |\n| --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
    )


def skill_text(candidate: Mapping[str, Any]) -> str:
    """The skill of a candidate against the base as text, with its interval if there are enough origins for one."""
    if "skill" not in candidate:
        return "–"
    skill = f"{candidate['skill']:+.1%}"
    return skill if candidate["low"] is None else f"{skill} ({candidate['low']:+.1%} … {candidate['high']:+.1%})"


def _after_cutoff(scores: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        f"| {name} | {one['ours']:.3f} | {one['theirs']:.3f} | {one['skill']:+.1%} | {one['low']:+.1%} … "
        f"{one['high']:+.1%} | {one['forecasts']:,} of {one['symbols']} symbols, {one['origins']} origins |"
        for name, one in scores.items()
    ]
    return (
        "CRPS over ten sessions in percent of the close, origins of 2011–2021. Negative skill: the baseline is better. "
        "90 % intervals by block bootstrap over origins, widened for their number. The symbols were still listed in "
        "2021, so the scores carry survivorship bias.\n\n"
        "| symbols and baseline | CRPS | CRPS of the baseline | skill | interval | forecasts |\n"
        "| --- | --- | --- | --- | --- | --- |\n" + "\n".join(rows)
    )


def _training(card: Mapping[str, Any]) -> str:
    curves = card["curves"]
    return (
        f"Lowest validation loss at step {curves['best_step']}; weights used: {weights_in_use(card)}. "
        f"{curves.get('windows_per_second') or 0.0:,.0f} windows per second."
    )
