"""Histories without a forecast: checked, and encoded in batches. What hidden states and the first step's law read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from kronos.devices import suitable_threads
from kronos.features import TIME_FEATURES
from kronos.inference.batching import EncodedHistories, split_series
from kronos.inference.engine import PREFILL_ROWS
from kronos.validation import SeriesInput, check_same_length, check_series, warn_about_length, warn_about_scale

if TYPE_CHECKING:
    from kronos.inference.pipeline import PathSampler


def check_histories(
    sampler: PathSampler,
    values: Sequence[ArrayLike],
    x_stamps: Sequence[ArrayLike],
    names: Sequence[str] | None,
    *,
    valid_bars: bool,
) -> list[SeriesInput]:
    """Histories as checked inputs without a future; arrays as for `PathSampler.sample_paths`.

    Raises InputError naming the series, field and row.
    """
    labels = [str(i) for i in range(len(values))] if names is None else list(names)
    check_same_length("series", len(values), x_stamps=x_stamps, names=labels)
    rule, no_future = sampler.normalisation.missing_volume, np.empty((0, len(TIME_FEATURES)))
    entries = zip(labels, values, x_stamps, strict=True)
    inputs = [check_series(*entry, no_future, 0, valid_bars=valid_bars, missing_volume=rule) for entry in entries]
    warn_about_scale(inputs, sampler.normalisation.epsilon)
    warn_about_length(inputs, sampler.max_context)
    return inputs


def encoded_histories(sampler: PathSampler, inputs: Sequence[SeriesInput]) -> Iterator[EncodedHistories]:
    """The tokens of all histories, those of one length together, in batches that fit into memory."""
    _, tokenizer = sampler.engines()
    lengths = [len(one.values) for one in inputs]
    with suitable_threads(sampler.device, sampler.threads, sampler.model, sampler.tokenizer):
        for batch in split_series(lengths, bytes_of=lambda bars: bars, paths=1, budget=PREFILL_ROWS):
            for members in batch:
                yield sampler.encode(tokenizer, inputs, members, horizon=0)
