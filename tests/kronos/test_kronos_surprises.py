"""What a user of the authors' package expects of names, seeds, devices, progress and threads, or is warned of."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kronos import InputError, InputWarning, Kronos, KronosPredictor, KronosTokenizer
from kronos.config import KRONOS_MINI, TOKENIZER_2K
from kronos.devices import SMALL, suitable_threads
from tests.kronos.kronos_pairs import TINY, TINY_TOKENIZER, random_bars, random_stamps


def test_the_seed_of_torch_decides_where_none_is_given(tiny_predictor: KronosPredictor) -> None:
    frame, runs = random_bars(20, seed=4), []
    for seed in (11, 11, 12):
        torch.manual_seed(seed)
        runs.append(tiny_predictor.predict_paths(frame, pred_len=3, sample_count=4))
    runs.append(tiny_predictor.predict_paths(frame, pred_len=3, sample_count=4))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[1], runs[2]) and not np.array_equal(runs[2], runs[3])


@pytest.mark.parametrize(("volume", "amount"), [("vol", "amt"), ("Volume", "Amount"), ("成交量", "成交额")])
def test_volume_and_amount_are_found_under_their_usual_names(
    tiny_predictor: KronosPredictor, volume: str, amount: str
) -> None:
    frame = random_bars(25, seed=2)
    renamed = frame.rename(columns={"volume": volume, "amount": amount})
    expected = tiny_predictor.predict_paths(frame, pred_len=3, seed=1)
    np.testing.assert_array_equal(tiny_predictor.predict_paths(renamed, pred_len=3, seed=1), expected)
    with pytest.raises(InputError, match=f"volume could be any of the columns .*{volume}.*rename"):
        tiny_predictor.predict(renamed.assign(TickVol=1.0), pred_len=3)


def test_a_column_that_resembles_a_volume_is_named_in_a_warning(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(25).rename(columns={"volume": "Volume BTC", "amount": "spread"})
    with pytest.warns(InputWarning, match="series 0: .*Volume BTC is not used"):
        tiny_predictor.predict(frame, pred_len=2)


@pytest.mark.parametrize("name", ["timestamps", "timestamp", "DateTime", "date"])
def test_timestamps_are_found_in_a_column_of_the_frame(tiny_predictor: KronosPredictor, name: str) -> None:
    frame = random_bars(25, seed=3)
    flat = frame.rename_axis(name).reset_index()
    expected = tiny_predictor.predict(frame, pred_len=3, seed=1)
    pd.testing.assert_frame_equal(tiny_predictor.predict(flat, pred_len=3, seed=1), expected)
    text = flat.assign(**{name: flat[name].astype(str)})
    pd.testing.assert_frame_equal(tiny_predictor.predict(text, pred_len=3, seed=1), expected, check_index_type=False)


def test_a_date_beside_a_time_is_no_timestamp(tiny_predictor: KronosPredictor) -> None:
    flat = random_bars(25).rename_axis("Date").reset_index().assign(Time="09:30")
    with pytest.raises(InputError, match=r"series 0: .*Date and Time.*x_timestamp"):
        tiny_predictor.predict(flat, pred_len=2)


def test_a_top_p_beside_a_top_k_is_warned_of(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(20)
    with pytest.warns(InputWarning, match=r"top_p=0\.3 .*top_k=7"):
        both = tiny_predictor.predict(frame, pred_len=3, top_k=7, top_p=0.3, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = tiny_predictor.predict(frame, pred_len=3, top_k=7, top_p=1.0, seed=1)
        tiny_predictor.predict(frame, pred_len=3, top_k=1, seed=1)  # greedy: neither matters
    pd.testing.assert_frame_equal(both, alone)


@pytest.mark.parametrize("device", ["cuda:97", "xpu", "gpu", "cuda:first", "meta", ""])
def test_a_device_that_is_not_here_is_named_with_those_that_are(
    tiny_model: Kronos, tiny_tokenizer: KronosTokenizer, device: str, tmp_path: Any
) -> None:
    with pytest.raises(InputError, match=f"device='{re.escape(device)}' .*cpu"):
        KronosPredictor(tiny_model, tiny_tokenizer, device=device)
    tiny_model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=f"device='{re.escape(device)}'"):
        Kronos.from_pretrained(tmp_path, map_location=device)


def test_every_verbose_forecast_shows_its_progress(
    tiny_predictor: KronosPredictor, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [random_bars(length, seed=length) for length in (20, 33)]
    arrays = [frame.to_numpy() for frame in frames], [random_stamps(20), random_stamps(33)], [random_stamps(4)] * 2
    drawn = "24/24"  # 2 series, 3 paths, 4 steps
    calls: list[tuple[str, Callable[..., object]]] = [
        ("12/12", partial(tiny_predictor.predict, frames[0], pred_len=4, sample_count=3)),
        (drawn, partial(tiny_predictor.predict_batch, frames, pred_len=4, sample_count=3)),
        (drawn, partial(tiny_predictor.predict_paths, frames, pred_len=4, sample_count=3)),
        (drawn, partial(tiny_predictor.predict_quantiles, frames, pred_len=4, sample_count=3)),
        (drawn, partial(tiny_predictor.forecast, frames, pred_len=4, sample_count=3)),
        (drawn, partial(tiny_predictor.sample_paths, *arrays, 4, paths=3, seeds=[1, 2])),
    ]
    for bars, call in calls:
        call(verbose=True)
        shown = capsys.readouterr().err
        assert bars in shown and "bar/s" in shown
        call()
        assert not capsys.readouterr().err


def test_progress_counts_bars_once_that_are_drawn_again_in_smaller_parts(
    tiny_model: Kronos,
    tiny_tokenizer: KronosTokenizer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predictor = KronosPredictor(tiny_model, tiny_tokenizer, device="cpu")
    predictor.engines()
    generate, attempts = predictor._generate, []

    def out_of_memory_once(*arguments: Any, **options: Any) -> None:
        generate(*arguments, **options)
        attempts.append(1)
        if len(attempts) == 1:
            raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(predictor, "_generate", out_of_memory_once)
    predictor.predict(random_bars(20), pred_len=4, sample_count=6, verbose=True)
    assert len(attempts) == 3 and "24/24" in capsys.readouterr().err


def test_small_models_run_with_one_thread_and_restore_the_number(
    tiny_model: Kronos, tiny_tokenizer: KronosTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, cpu = torch.get_num_threads(), torch.device("cpu")
    large = torch.nn.Linear(SMALL // 1000, 1000, device="meta")
    torch.set_num_threads(3)
    try:
        for threads, models, expected in ((None, [tiny_model], 1), (None, [tiny_model, large], 3), (2, [large], 2)):
            with suitable_threads(cpu, threads, *models):
                assert torch.get_num_threads() == expected
            assert torch.get_num_threads() == 3
        used: list[int] = []
        predictor = KronosPredictor(tiny_model, tiny_tokenizer, device="cpu")
        decode = predictor._generate

        def counted(*arguments: Any, **options: Any) -> None:
            used.append(torch.get_num_threads())
            decode(*arguments, **options)
            raise KeyboardInterrupt

        predictor.engines()
        monkeypatch.setattr(predictor, "_generate", counted)
        with pytest.raises(KeyboardInterrupt):
            predictor.predict(random_bars(20), pred_len=2)
        assert used == [1] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    with pytest.raises(InputError, match="threads=0"):
        KronosPredictor(tiny_model, tiny_tokenizer, device="cpu", threads=0)


def test_a_history_beyond_the_context_is_warned_of_with_both_numbers(
    tiny_model: Kronos, tiny_tokenizer: KronosTokenizer
) -> None:
    predictor = KronosPredictor(tiny_model, tiny_tokenizer, device="cpu", max_context=24)
    with pytest.warns(InputWarning, match="series 1: .*30 bars.*max_context is 24") as caught:
        predictor.predict_batch([random_bars(24), random_bars(30)], pred_len=2)
    assert len(caught) == 1


def test_a_context_beyond_that_of_the_published_weights_is_warned_of() -> None:
    model, tokenizer = Kronos(config=KRONOS_MINI), KronosTokenizer(config=TOKENIZER_2K)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KronosPredictor(model, tokenizer, device="cpu", max_context=2048)
        KronosPredictor(Kronos(config=TINY), KronosTokenizer(config=TINY_TOKENIZER), device="cpu", max_context=4096)
    with pytest.warns(InputWarning, match=r"max_context=2100.* 2048 bars"):
        KronosPredictor(model, tokenizer, device="cpu", max_context=2100)
