"""Small random models, created once per session."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

from kronos import Kronos, KronosPredictor, KronosTokenizer
from tests.kronos.kronos_pairs import TINY, TINY_TOKENIZER, Pair, make_pair

# No deadline: on a busy machine a single example may take long, and its result is what matters.
settings.register_profile("kronos", deadline=None)
settings.load_profile("kronos")


@pytest.fixture(scope="session")
def tiny() -> Pair:
    return make_pair(TINY, TINY_TOKENIZER)


@pytest.fixture(scope="session")
def tiny_model() -> Kronos:
    torch.manual_seed(0)
    return Kronos(config=TINY).eval()


@pytest.fixture(scope="session")
def tiny_tokenizer() -> KronosTokenizer:
    torch.manual_seed(0)
    return KronosTokenizer(config=TINY_TOKENIZER).eval()


@pytest.fixture(scope="session")
def tiny_predictor(tiny_model: Kronos, tiny_tokenizer: KronosTokenizer) -> KronosPredictor:
    return KronosPredictor(tiny_model, tiny_tokenizer, device="cpu")
