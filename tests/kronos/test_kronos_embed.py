"""Embeddings: what a vector is, what it depends on, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kronos import InputError, KronosPredictor
from kronos.features import time_features
from tests.kronos.kronos_pairs import random_bars


def test_an_embedding_is_the_hidden_state_of_the_model(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(40, seed=3)
    normalised, _, _ = tiny_predictor.normalisation.apply(frame.to_numpy(), len(frame))
    with torch.inference_mode():
        tokens = tiny_predictor.tokenizer.encode(torch.from_numpy(normalised)[None], half=True)
        stamps = torch.from_numpy(time_features(frame.index))[None]
        states = tiny_predictor.model.hidden(*tokens, stamps)[0].numpy()
    np.testing.assert_allclose(tiny_predictor.embed(frame)[0], states[-1], atol=1e-4)
    np.testing.assert_allclose(tiny_predictor.embed(frame, pooling="mean")[0], states.mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_an_embedding_depends_on_its_own_history_alone(tiny_predictor: KronosPredictor, pooling: str) -> None:
    frames = [random_bars(length, seed=seed) for seed, length in enumerate((33, 50, 33, 7, 33))]
    together = tiny_predictor.embed(frames, pooling=pooling)  # type: ignore[arg-type]
    assert together.shape == (5, 48) and together.dtype == np.float32
    for place, frame in enumerate(frames):
        alone = tiny_predictor.embed(frame, pooling=pooling)  # type: ignore[arg-type]
        np.testing.assert_array_equal(alone[0], together[place])
    assert len(np.unique(together, axis=0)) == 5


def test_an_embedding_names_what_it_cannot_read(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(12)
    broken = frame.copy()
    broken.iloc[4, 3] = np.inf
    with pytest.raises(InputError, match=r"series 1: close in row 4"):
        tiny_predictor.embed([frame, broken])
    with pytest.raises(InputError, match=r"'first'.*last, mean"):
        tiny_predictor.embed(frame, pooling="first")  # type: ignore[arg-type]
    assert tiny_predictor.embed([]).shape == (0, 48)
