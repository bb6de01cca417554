"""Hidden states of histories as features for other models: one vector per series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from kronos.errors import InputError
from kronos.inference.histories import check_histories, encoded_histories

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
    inputs = check_histories(sampler, values, x_stamps, names, valid_bars=False)
    predictor, _ = sampler.engines()
    states = np.empty((len(inputs), predictor.width), dtype=np.float32)
    for known in encoded_histories(sampler, inputs):
        hidden = predictor.hidden(known.s1, known.s2, predictor.time_emb(known.stamps)).float().cpu().numpy()
        # numpy adds bar after bar, however many series there are.
        states[known.members] = hidden[:, -1] if pooling == "last" else hidden.mean(axis=1, dtype=np.float64)
    return states
