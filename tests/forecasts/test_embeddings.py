"""Embeddings: stored once per model and origin, the same in any batch, and blind to later bars."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from assets.forecasting.embedders import Embedder, embed_tasks, embedder
from assets.forecasts.embeddings import changed_by_future_bars, create_embeddings, embeddings_file
from assets.forecasts.embeddings_asset import embeddings_asset
from assets.market.gaps import GapFill
from assets.market.history import BarHistory
from assets.sessions import session_partitions
from kronos.inference.hidden_states import Pooling
from resources.candlecast import Candlecast
from resources.errors import CandlecastError
from tests.forecasts.forecast_home import ForecastHome

FIRST, LAST = date(2012, 5, 1), date(2012, 5, 31)


def _source(home: ForecastHome, model: str, pooling: Pooling = "last") -> Embedder:
    return embedder(model, home.settings, home.checkpoints, pooling)


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("model", ["kronos", "chronos2"])
def test_an_embedding_reads_its_own_bars_up_to_the_origin_alone(
    model_home: ForecastHome, model: str, pooling: Pooling
) -> None:
    source, tasks = _source(model_home, model, pooling), model_home.tasks(FIRST, LAST)
    vectors = embed_tasks(source, tasks)
    assert vectors.dtype == np.float32 and np.isfinite(vectors).all()
    assert len(np.unique(vectors, axis=0)) == len(tasks)
    assert embed_tasks(source, tasks[::-1]).tobytes() == vectors[::-1].tobytes()
    assert embed_tasks(source, tasks[3:4]).tobytes() == vectors[3:4].tobytes()
    assert changed_by_future_bars(source, tasks) == []


def test_chronos_2_embeds_in_batches_of_the_settings(model_home: ForecastHome) -> None:
    fewer = model_home.with_settings(chronos2={"series_at_once": 2})
    ours, theirs = _source(fewer, "chronos2"), _source(model_home, "chronos2")
    tasks = model_home.tasks(FIRST, FIRST)
    assert ours.checkpoint != theirs.checkpoint
    np.testing.assert_allclose(embed_tasks(ours, tasks), embed_tasks(theirs, tasks), atol=1e-4)


class _OneBarAhead(GapFill):
    """A preparation of histories that leaks: every bar becomes the one after it."""

    def apply(self, history: BarHistory) -> BarHistory:
        return replace(history, quoted=np.roll(history.quoted, -1, axis=0))


def test_an_embedder_that_reads_the_next_bar_is_found(model_home: ForecastHome) -> None:
    source, tasks = _source(model_home, "kronos"), model_home.tasks(FIRST, FIRST)
    leaking = replace(source, fill=_OneBarAhead("forward", 5, "XNYS", "1d"))
    assert changed_by_future_bars(leaking, tasks) == tasks


def test_stored_embeddings_stay_and_later_symbols_are_added(model_home: ForecastHome) -> None:
    source, tasks = _source(model_home, "kronos"), model_home.tasks(FIRST, LAST)
    some = [task for task in tasks if task.symbol != "MSFT"]
    layout = model_home.candlecast.home
    first = create_embeddings(layout, source, some)
    assert len(first.created) == len(some) and first.dimensions == 16
    again = create_embeddings(layout, source, some)
    assert not again.created and again.digests() == first.digests()
    everything = create_embeddings(layout, source, tasks)
    assert {task.symbol for task in everything.created} == {"MSFT"}

    origin = tasks[-1].origin
    file = embeddings_file(layout, source, origin)
    frame = pd.read_parquet(file)
    assert list(frame.columns) == ["model", "checkpoint", "symbol", "origin", "in_sample", "embedding"]
    assert set(frame["symbol"]) == {task.symbol for task in tasks if task.origin == origin}
    assert (frame["origin"] == pd.Timestamp(origin)).all() and not frame["in_sample"].any()
    expected = embed_tasks(source, tasks)
    stored = dict(zip(frame["symbol"], frame["embedding"], strict=True))
    for row, task in enumerate(tasks):
        if task.origin == origin:
            np.testing.assert_array_equal(stored[task.symbol], expected[row])

    # A damaged file is set aside and made again.
    file.write_bytes(file.read_bytes()[:-9] + b"123456789")
    assert {task.origin for task in create_embeddings(layout, source, tasks).created} == {origin}
    assert pd.read_parquet(file).sort_values("symbol")["symbol"].tolist() == sorted(stored)


def test_the_asset_stores_what_the_settings_name_with_a_version_per_session(model_home: ForecastHome) -> None:
    home = model_home.with_settings(embeddings={"models": ("chronos2",), "pooling": "mean"})
    sessions = session_partitions(home.settings)
    upstream = [dg.AssetSpec("bars", partitions_def=sessions)]
    upstream += [
        dg.AssetSpec(n)
        for n in ("corporate_actions", "kronos_tokenizer", "kronos_predictor", "chronos2_model", "volatility_model")
    ]
    defs = dg.Definitions(
        assets=[*upstream, embeddings_asset(sessions)],
        jobs=[dg.define_asset_job("job", selection=["embeddings"])],
        resources={"candlecast": Candlecast(home.settings, warehouse=home.warehouse)},
    )
    tags = {"dagster/asset_partition_range_start": "2012-06-01", "dagster/asset_partition_range_end": "2012-06-15"}
    with dg.DagsterInstance.ephemeral() as instance:
        done = defs.resolve_job_def("job").execute_in_process(instance=instance, tags=tags)
        assert all(check.passed for check in done.get_asset_check_evaluations())
    origins = home.origins(date(2012, 6, 1), date(2012, 6, 15))
    folder = home.candlecast.home.embeddings / "chronos2" / _source(home, "chronos2", "mean").checkpoint
    assert len(list(folder.glob("*.parquet"))) == len(origins) > 0


def test_without_weights_or_for_another_model_the_remedy_is_named(home: ForecastHome) -> None:
    for model, named in (("kronos", "kronos_predictor"), ("chronos2", "chronos2_model"), ("drift", "kronos")):
        with pytest.raises(CandlecastError, match=named):
            _source(home, model)
