"""Hidden states of histories as features for other models: one vector per series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from kronos.devices import suitable_threads
from kronos.errors import InputError
from kronos.features import TIME_FEATURES
from kronos.inference.batching import split_series
from kronos.inference.engine import PREFILL_ROWS
from kronos.validation import check_same_length, check_series, warn_about_length, warn_about_scale

if TYPE_CHECKING:
    from kronos.inference.pipeline import PathSampler

Pooling = Literal["last", "mean"]
"""How the states of a window become one vector.

"last": that of the newest bar, which attends to the whole window and from which the next bar is predicted; "mean": the
mean over the window's bars.
"""


@torch.inference_mode()
def hidden_states(
    sampler: PathSampler,
    values: Sequence[ArrayLike],
    x_stamps: Sequence[ArrayLike],
    *,
    pooling: Pooling = "last",
    names: Sequence[str] | None = None,
) -> NDArray[np.float32]:
    """Hidden states of the predictor after its last norm, pooled over each window: (series, d_model).

    `values[i]` (length_i, 6) and `x_stamps[i]` (length_i, 5) as for `PathSampler.sample_paths`. The window is the last
    `max_context` bars; normalisation and tokenizer read the whole history. On the CPU a series' vector depends on its
    own bars and stamps only, bit for bit. `names` label errors.

    Raises InputError naming the series, field and row, or an unknown pooling.
    """
    if pooling not in get_args(Pooling):
        raise InputError(f"pooling={pooling!r} is none of {', '.join(get_args(Pooling))}")
    labels = [str(i) for i in range(len(values))] if names is None else list(names)
    check_same_length("series", len(values), x_stamps=x_stamps, names=labels)
    rule, no_future = sampler.normalisation.missing_volume, np.empty((0, len(TIME_FEATURES)))
    entries = zip(labels, values, x_stamps, strict=True)
    inputs = [check_series(*entry, no_future, 0, valid_bars=False, missing_volume=rule) for entry in entries]
    warn_about_scale(inputs, sampler.normalisation.epsilon)
    warn_about_length(inputs, sampler.max_context)
    predictor, tokenizer = sampler.engines()
    states = np.empty((len(inputs), predictor.width), dtype=np.float32)
    lengths = [len(one.values) for one in inputs]
    with suitable_threads(sampler.device, sampler.threads, sampler.model, sampler.tokenizer):
        for batch in split_series(lengths, bytes_of=lambda bars: bars, paths=1, budget=PREFILL_ROWS):
            for members in batch:
                known = sampler.encode(tokenizer, inputs, members, horizon=0)
                hidden = predictor.hidden(known.s1, known.s2, predictor.time_emb(known.stamps)).float().cpu().numpy()
                # numpy adds bar after bar, however many series there are.
                states[members] = hidden[:, -1] if pooling == "last" else hidden.mean(axis=1, dtype=np.float64)
    return states
