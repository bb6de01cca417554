"""Time and memory of writing, scoring and comparing forecasts.

    python -m benchmarks.evaluation [symbols] [origins]

Synthetic bars and forecasts of six models, 10 steps, 19 levels; 500 symbols × 250 origins are 142,500,000 quantiles.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from assets.evaluation.risk.backtest_table import build_backtest
from assets.evaluation.risk.risk_table import update_risk
from assets.evaluation.scoreboard import build_scoreboard
from assets.evaluation.scoring import score_sessions
from assets.market.history import read_histories
from resources.calendar import TradingCalendar
from resources.candlecast import Candlecast
from resources.settings import Settings
from resources.warehouse import Warehouse

MODELS = ("random_walk", "random_walk_ewma", "drift", "momentum", "kronos", "chronos2")
WARM_UP = 100
BARS = """
INSERT INTO bars BY NAME
SELECT symbol, ts, ts::DATE AS session, '1d' AS frequency, close AS open, close AS high, close AS low, close,
       1.0 AS volume, NULL AS amount, []::VARCHAR[] AS flags, 'sample' AS source, '-' AS payload_sha256,
       ts AS available_at, 1 AS batch
FROM (
    SELECT 'S' || lpad(s::VARCHAR, 4, '0') AS symbol, t.ts, 100 * exp(0.2 * sin(t.n / 37 + s)) AS close
    FROM range($symbols) AS a(s), sessions t
)
"""
QUANTILES = """
INSERT INTO forecast_quantiles
SELECT $model, $checkpoint, b.symbol, b.ts, $made_at::TIMESTAMP, h.step::INTEGER, f.ts, 'close', l.level,
       b.close * (1 + 0.01 * sqrt(h.step) * l.score * $width), false
FROM bars b JOIN sessions o ON o.ts = b.ts AND o.n >= $warm_up AND o.n < $warm_up + $origins,
     range(1, 11) AS h(step), levels l, sessions f
WHERE f.n = o.n + h.step
"""
FORECASTS = """
INSERT INTO forecasts BY NAME SELECT DISTINCT model, checkpoint, symbol, origin, made_at, in_sample, 0.0 AS corrected
FROM forecast_quantiles WHERE model = $model
"""


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Print the time of a block and the peak memory of the process."""
    start = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{step:<42} {time.perf_counter() - start:8.1f} s   peak {peak:6.0f} MiB")


def main(symbols: int, origins: int) -> None:
    calendar = TradingCalendar("XNYS")
    sessions = calendar.sessions(date(2015, 1, 2), date(2019, 12, 31))[: WARM_UP + origins + 10]
    settings = Settings()
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse(Path(folder) / "warehouse.duckdb")
        with timed(f"make {symbols * origins * 10 * 19 * len(MODELS):,} quantiles"):
            fill(warehouse, symbols, origins, sessions.to_numpy(), settings)
        with timed("read histories"):
            histories = read_histories(warehouse, "1d")
        span = [sessions[0].date(), sessions[-1].date()]
        with timed("score everything"):
            scored = score_sessions(warehouse, histories, span)
        with timed("score again, nothing new"):
            score_sessions(warehouse, histories, span)
        with timed("scoreboard"):
            build_scoreboard(warehouse, settings, dict.fromkeys(MODELS, "synthetic"), calendar)
        candlecast = Candlecast(settings, warehouse=warehouse)
        for step in ("risk measures", "risk measures again, nothing new"):
            with timed(step):
                update_risk(candlecast, dict.fromkeys(MODELS, "synthetic"))
        with timed("backtest of risk measures"):
            build_backtest(candlecast)
        print(f"{scored.rows:,} scores, warehouse {warehouse.path.stat().st_size / 2**20:,.0f} MiB")


def fill(warehouse: Warehouse, symbols: int, origins: int, sessions: np.ndarray, settings: Settings) -> None:
    from scipy.special import ndtri

    levels = np.asarray(settings.forecasts.levels)
    with warehouse.write() as connection:
        connection.execute("CREATE TEMP TABLE sessions (n INTEGER, ts TIMESTAMP)")
        connection.execute("CREATE TEMP TABLE levels (level DOUBLE, score DOUBLE)")
        connection.executemany(
            "INSERT INTO sessions VALUES (?, ?)",
            [(n, s.item()) for n, s in enumerate(sessions.astype("datetime64[s]"))],
        )
        connection.executemany(
            "INSERT INTO levels VALUES (?, ?)", list(zip(levels.tolist(), ndtri(levels).tolist(), strict=True))
        )
        connection.execute(BARS, {"symbols": symbols})
        for number, model in enumerate(MODELS):
            connection.execute(
                QUANTILES,
                {
                    "model": model,
                    "checkpoint": "synthetic",
                    "made_at": datetime.now(UTC).replace(tzinfo=None),
                    "width": 0.8 + 0.1 * number,
                    "warm_up": WARM_UP,
                    "origins": origins,
                },
            )
            connection.execute(FORECASTS, {"model": model})


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    main(*(arguments or (500, 250)))
