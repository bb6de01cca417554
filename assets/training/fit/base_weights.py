"""Base weights: what a fit starts from, under an identifier that is stable, with provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from pydantic import BaseModel

from assets.forecasting.chronos2.standardised import TARGET, input_mismatch
from resources.checkpoints import CARD, Kind, trained_until
from resources.errors import CandlecastError
from resources.hub_models import STATED_CUTOFFS
from resources.settings import Chronos2Settings, FitSettings, Settings, VolatilitySettings
from resources.stored_weights import StoredWeights, find_stored_weights, folder_weights, read_json

NONE, PACKAGED, AUTO = "none", "packaged", "auto"
WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
# The section of the settings of each kind.
SECTIONS: Mapping[Kind, str] = {
    "kronos_tokenizer": "tokenizer",
    "kronos_predictor": "predictor",
    "chronos2_model": "chronos2",
    "volatility_model": "volatility",
}


@dataclass(frozen=True)
class BaseWeights:
    """Weights to start from.

    Attributes:
        source: a folder, of a hub model the one in the cache of the hub; none: from scratch.
        digest: identifies them in a recipe.
        revision: the commit of a hub model.
        cutoff: the last day whose bars influenced them, by training or selection; none: unknown, or from scratch.
        trained_until: the last day whose bars they were trained on, at most the cutoff; none: as for the cutoff.
        bounded: whether the cutoff is the day of their publication, because nothing states it.
    """

    source: str | None
    digest: str
    revision: str | None = None
    cutoff: date | None = None
    licence: str = "MIT"
    note: str = ""
    trained_until: date | None = None
    bounded: bool = False

    @property
    def from_scratch(self) -> bool:
        return self.source is None

    @property
    def trained_lookback(self) -> int | None:
        """The bars up to the origin of the windows that they were trained on; none: their card does not say."""
        file = Path(self.source or "") / CARD
        training = read_json(file).get("training") if self.source and file.is_file() else None
        return training.get("lookback") if isinstance(training, dict) else None

    def cutoff_after(self, cutoff: date | None) -> date | None:
        """The cutoff after training on bars up to `cutoff` (none: no training)."""
        return self._latest(self.cutoff, cutoff)

    def trained_until_after(self, trained_until: date | None) -> date | None:
        """`trained_until` after training on bars up to `trained_until` (none: no training)."""
        return self._latest(self.trained_until, trained_until)

    def dated(self, cutoff: date | None, published: date | None, section: str) -> BaseWeights:
        """These weights with the dates that a section of the settings states for them.

        Raises:
            CandlecastError: the weights state another cutoff.
        """
        stated = None if self.bounded else self.cutoff
        if cutoff and stated and cutoff != stated:
            raise CandlecastError(f"{section}.cutoff = {cutoff}, but the base states {stated}: leave the key out")
        if cutoff:
            return replace(self, cutoff=cutoff, trained_until=cutoff, bounded=False)
        if published and not stated:
            return replace(self, cutoff=published, trained_until=published, bounded=True)
        return self

    def require_before(self, vintage: date, section: str) -> None:
        """Refuse weights that may have been trained on sessions that a vintage forecasts.

        Raises:
            CandlecastError: their cutoff is unknown, or not before the vintage.
        """
        if self.from_scratch or (self.cutoff is not None and self.cutoff < vintage):
            return
        raise CandlecastError(
            f"{self.source} has the cutoff {self.cutoff or '(unknown)'}, so it may have been trained on sessions of "
            f'the vintage {vintage}: set {section}.base = "none", to weights with an earlier cutoff or to a name with '
            "{year}, or let windows.validation end later"
        )

    def _latest(self, own: date | None, later: date | None) -> date | None:
        if self.from_scratch:
            return later
        if own is None or later is None:
            return own
        return max(own, later)


def base_of(
    kind: Kind, section: FitSettings | Chronos2Settings | VolatilitySettings, settings: Settings
) -> BaseWeights:
    """The base weights of a section of the settings, with the dates that it states.

    Raises:
        CandlecastError: as `resolve_base`; or a date contradicts the weights.
    """
    base = resolve_base(kind, section.base, section.revision, settings)
    dated = base.dated(section.cutoff, section.published, SECTIONS[kind])
    return replace(dated, licence=section.licence) if section.licence else dated


def resolve_base(kind: Kind, name: str, revision: str | None, settings: Settings) -> BaseWeights:
    """The base weights for the settings' `base`.

    Args:
        name: "none", "packaged", "auto" (packaged where bars are daily, champions never expire and the cutoff is not
            after the validation range, else none), a folder (absolute, or relative to the settings file), or a hub
            name.

    Raises:
        CandlecastError: `name` is none of these, or a hub model that was not fetched or is damaged.
    """
    if name == NONE:
        return BaseWeights(None, NONE)
    if name == AUTO:
        packaged = resolve_base(kind, PACKAGED, None, settings)
        fits = settings.market.frequency == "1d" and settings.promotion.expires_days is None
        earlier = packaged.cutoff is not None and packaged.cutoff <= settings.windows.cutoff
        return packaged if fits and earlier else BaseWeights(None, NONE)
    if name == PACKAGED:
        folder = WEIGHTS / kind
        if not (folder / CARD).is_file():
            raise CandlecastError(f"there are no packaged weights of {kind} in {folder}: install candlecast again")
        return _stored(folder_weights(folder))
    found = find_stored_weights(settings, name, revision)
    if found is not None:
        return _stored(found)
    raise CandlecastError(
        f"the base {name!r} of {kind} is neither a folder under {settings.root} nor a hub name: set it to "
        '"none", "packaged", a folder with config.json and model.safetensors, or a name such as NeoQuasar/Kronos-small'
    )


def require_matching_inputs(base: BaseWeights, section: Chronos2Settings) -> None:
    """Refuse to train weights of standardised_close on other targets: a short training would lose what they know.

    Weights of other targets learn standardised_close, and weights that are not trained are read as they were trained.

    Raises:
        CandlecastError: with both targets.
    """
    file = Path(base.source or "") / CARD
    if base.source is None or TARGET in section.targets or not file.is_file():
        return
    if reason := input_mismatch(read_json(file), section.targets):
        raise CandlecastError(
            f'chronos2.base = {section.base!r}: {reason}: set targets = ["{TARGET}"] and past_covariates to those of '
            'the weights, or base = "none"'
        )


def require_matching_shape(kind: Kind, base: BaseWeights, section: BaseModel) -> None:
    """Refuse a shape in the settings that differs from that of the base: it would be ignored.

    Raises:
        CandlecastError: with the key and both values.
    """
    config = Path(base.source or "") / "config.json"
    if base.source is None or not config.is_file():
        return
    built = read_json(config)
    fields = type(section).model_fields
    for key in sorted(fields.keys() & built.keys()):
        value = getattr(section, key)
        if value not in (built[key], fields[key].default):
            name = SECTIONS[kind]
            raise CandlecastError(
                f"{name}.{key} = {value}, but the base {base.source} was built with {built[key]}: leave the key out, "
                f'or set {name}.base = "none" to train from scratch'
            )


def different_tokens(reads: tuple[int, int], writes: tuple[int, int]) -> str:
    """Why a predictor cannot start from a base: the bits of the tokens that it reads, and those of the tokenizer."""
    return (
        f"reads tokens of {reads[0]} + {reads[1]} bits, the tokenizer writes {writes[0]} + {writes[1]}: set "
        "predictor.base and tokenizer.base to weights of one family"
    )


def _stored(found: StoredWeights) -> BaseWeights:
    """Weights of a folder or of the hub. Publication bounds a cutoff that nothing states."""
    note, until, licence = found.card.get("name", ""), trained_until(found.card), "unknown: see the folder"
    if found.repository is not None:
        # Whether it leaked: issue 227 of its repository.
        leak = (
            "; whether their training normalisation leaked is not known" if found.repository in STATED_CUTOFFS else ""
        )
        note = f"{found.repository}: published weights{leak}"
        until, licence = until or found.cutoff, "unknown: see the hub"
    return BaseWeights(
        source=str(found.folder),
        digest=f"hub:{found.identity}" if found.repository else found.identity,
        revision=found.commit,
        cutoff=found.cutoff,
        licence=found.licence or licence,
        note=note,
        trained_until=until,
        bounded=found.stated is None and found.published is not None,
    )
