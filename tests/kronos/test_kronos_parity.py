"""Same tokens, logits and greedy forecasts as the authors' package, with the same random weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from kronos.config import KRONOS_BASE, KRONOS_MINI, KRONOS_SMALL, TOKENIZER_2K, TOKENIZER_BASE
from kronos.losses import predictor_loss, tokenizer_loss
from tests.kronos.kronos_pairs import Pair, make_pair, random_bars, random_stamps

PUBLISHED = {
    "mini": (KRONOS_MINI, TOKENIZER_2K, 2048),
    "small": (KRONOS_SMALL, TOKENIZER_BASE, 512),
    "base": (KRONOS_BASE, TOKENIZER_BASE, 512),
}


def assert_modules_match(pair: Pair, lookback: int) -> None:
    """Tokens identical; reconstructions and logits within 1e-5."""
    x = torch.randn(2, lookback, 6, generator=torch.Generator().manual_seed(lookback)).clamp(-5, 5)
    stamps = torch.from_numpy(random_stamps(2, lookback))
    with torch.no_grad():
        theirs, mine = pair.their_tokenizer(x), pair.tokenizer(x)
        for a, b in zip(theirs[0], mine.reconstructions, strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=1e-5)
        torch.testing.assert_close(mine.bsq_loss, theirs[1], rtol=0, atol=1e-5)
        assert torch.equal(mine.indices, theirs[3])
        s1, s2 = pair.their_tokenizer.encode(x, half=True)
        assert all(torch.equal(a, b) for a, b in zip((s1, s2), pair.tokenizer.encode(x, half=True), strict=True))
        assert torch.equal(pair.tokenizer.encode(x), pair.their_tokenizer.encode(x))
        decoded = pair.their_tokenizer.decode([s1, s2], half=True)
        torch.testing.assert_close(pair.tokenizer.decode((s1, s2), half=True), decoded, rtol=0, atol=1e-5)
        s1_logits, context = pair.their_model.decode_s1(s1, s2, stamps.float())
        my_logits, my_context = pair.model.decode_s1(s1, s2, stamps)
        torch.testing.assert_close(my_logits, s1_logits, rtol=0, atol=1e-5)
        sibling = s1[:, -1:]
        s2_logits = pair.their_model.decode_s2(context, sibling)
        torch.testing.assert_close(pair.model.decode_s2(my_context, sibling), s2_logits, rtol=0, atol=1e-5)


def assert_greedy_match(pair: Pair, lookback: int, horizon: int, max_context: int, sample_count: int = 1) -> None:
    """The authors' greedy forecast (top_k = 1) and ours, from the same frame."""
    theirs, ours = pair.predictors(max_context)
    bars = random_bars(lookback, seed=lookback)
    stamps = pd.Series(pd.bdate_range(bars.index[0], periods=lookback + horizon))
    arguments = (bars, stamps[:lookback], stamps[lookback:], horizon)
    expected = theirs.predict(*arguments, top_k=1, sample_count=sample_count, verbose=False)
    actual = ours.predict(*arguments, top_k=1, sample_count=sample_count, project=False)
    # One differing token changes a bar by far more.
    np.testing.assert_allclose(actual.to_numpy(), expected.to_numpy(), rtol=1e-4)
    pd.testing.assert_index_equal(actual.index, expected.index, exact=False, check_names=False)


@pytest.mark.parametrize("lookback", [1, 2, 33])
def test_modules_match(tiny: Pair, lookback: int) -> None:
    assert_modules_match(tiny, lookback)


@pytest.mark.parametrize("horizon", [1, 10])
@pytest.mark.parametrize("lookback", [1, 20, 28, 32, 50])
@pytest.mark.parametrize("sample_count", [1, 3])
def test_greedy_forecasts_match_also_beyond_max_context(
    tiny: Pair, lookback: int, horizon: int, sample_count: int
) -> None:
    assert_greedy_match(tiny, lookback, horizon, max_context=32, sample_count=sample_count)


def test_training_forward_and_gradients_match(tiny: Pair) -> None:
    s1, s2 = torch.randint(0, 64, (3, 20)), torch.randint(0, 32, (3, 20))
    stamps = torch.from_numpy(random_stamps(3, 20))
    tiny.their_model.train()
    try:
        logits = tiny.their_model(
            s1[:, :-1], s2[:, :-1], stamps[:, :-1], use_teacher_forcing=True, s1_targets=s1[:, 1:]
        )
        expected = tiny.their_model.head.compute_loss(*logits, s1[:, 1:], s2[:, 1:])[0]
        expected.backward()
    finally:
        tiny.their_model.eval()
    loss = predictor_loss(tiny.model, s1, s2, stamps).total
    loss.backward()
    torch.testing.assert_close(loss, expected)
    theirs = dict(tiny.their_model.named_parameters())
    for name, parameter in tiny.model.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-4, atol=1e-6)
    tiny.model.zero_grad()
    tiny.their_model.zero_grad()


def test_tokenizer_loss_and_gradients_match(tiny: Pair) -> None:
    x = torch.randn(4, 25, 6)
    (coarse, full), bsq, _, _ = tiny.their_tokenizer(x)
    mse = torch.nn.functional.mse_loss
    expected = (mse(coarse, x) + mse(full, x) + bsq) / 2
    expected.backward()
    loss = tokenizer_loss(tiny.tokenizer, x).total
    loss.backward()
    torch.testing.assert_close(loss, expected)
    theirs = dict(tiny.their_tokenizer.named_parameters())
    for name, parameter in tiny.tokenizer.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-4, atol=1e-6)
    tiny.tokenizer.zero_grad()
    tiny.their_tokenizer.zero_grad()


@pytest.fixture(scope="module")
def published() -> dict[str, Pair]:
    return {}


def published_pair(pairs: dict[str, Pair], size: str) -> Pair:
    if size not in pairs:
        pairs[size] = make_pair(*PUBLISHED[size][:2])
    return pairs[size]


@pytest.mark.slow
@pytest.mark.parametrize("lookback", [1, 64, 90, 400, 512])
@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_match(published: dict[str, Pair], size: str, lookback: int) -> None:
    pair, max_context = published_pair(published, size), PUBLISHED[size][2]
    assert_modules_match(pair, lookback)
    for horizon in (1, 10):
        assert_greedy_match(pair, lookback, horizon, max_context)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "lookback", "max_context"),
    [
        *(("mini", lookback, 512) for lookback in (1, 64, 90, 400, 512)),  # the last two exceed the window
        ("mini", 512, 2048),
        ("small", 64, 512),
        ("small", 400, 512),
        ("base", 64, 512),
        ("base", 64, 128),
    ],
)
def test_published_sizes_match_over_120_steps(
    published: dict[str, Pair], size: str, lookback: int, max_context: int
) -> None:
    assert_greedy_match(published_pair(published, size), lookback, 120, max_context)


@pytest.mark.slow
@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_match_with_several_paths_beyond_max_context(published: dict[str, Pair], size: str) -> None:
    assert_greedy_match(published_pair(published, size), 505, 10, 512, sample_count=2)
