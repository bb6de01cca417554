"""The distances of the input of some tasks from the training set of a Kronos predictor, kept in the home."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from assets.forecasting.companion import network
from assets.forecasting.drift import Encode, ask_tokens, input_digest, input_token_distances
from assets.forecasting.forecaster import ForecastTask
from assets.forecasting.lookbacks import fill_lookbacks
from assets.market.gaps import GapFill
from resources.candlecast import Candlecast
from resources.checkpoints import Checkpoint
from resources.compute import Compute
from resources.integrity import publish_kept_json, read_kept_json


class InputDistances:
    """The distance of each origin's input.

    Args:
        predictor: with a drift reference on its card.

    Attributes:
        tasks: those whose input is measured, all symbols of an origin together.
    """

    def __init__(self, candlecast: Candlecast, predictor: Checkpoint, tasks: Sequence[ForecastTask]) -> None:
        settings = candlecast.settings
        self.tasks = fill_lookbacks(tasks, GapFill.of(settings, predictor.card.get("training")))
        self._candlecast, self._predictor = candlecast, predictor
        self._lookback, self._clip = settings.windows.lookback_window, settings.windows.clip
        self._compute = Compute(settings.compute)

    def measured(self) -> dict[np.datetime64, float]:
        """The distances by origin; those that are on disk are not measured again."""
        kept = self._kept
        if kept is None:
            found = input_token_distances(self._predictor.card, *self._encoded, self._place)
            kept = {str(day): value for day, value in found.items()}
            publish_kept_json(self._file, kept)
        return {np.datetime64(day): value for day, value in kept.items()}

    def ask(self) -> None:
        """Have the companion encode what `measured` will need, if the companion does that, unless it is kept."""
        if self._compute.uses_companion(*self._folders) and self._kept is None:
            ask_tokens(*self._encoded, self._place)

    @property
    def _kept(self) -> dict[str, float] | None:
        kept: dict[str, float] | None = read_kept_json(self._file, self._candlecast.home.root)
        return kept

    @cached_property
    def _file(self) -> Path:
        digest = input_digest(self.tasks, self._lookback)
        return self._candlecast.home.drift / self._predictor.digest[:16] / f"{digest[:32]}.json"

    @cached_property
    def _tokenizer(self) -> Path:
        return self._candlecast.checkpoints.load("kronos_tokenizer", self._predictor.card["tokenizer"]).folder

    @property
    def _folders(self) -> tuple[Path, Path]:
        return self._predictor.folder, self._tokenizer

    @property
    def _encoded(self) -> tuple[Path, float, int, Sequence[ForecastTask]]:
        return self._tokenizer, self._clip, self._lookback, self.tasks

    def _place(self, load: Callable[[], Encode]) -> Encode:
        return network(load, self._compute, *self._folders)
