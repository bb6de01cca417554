"""Network sources with their real client libraries against a local server."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import numpy as np
import pandas as pd
import pytest

from assets.market.acceptance import conservation_errors
from assets.market.actions import refresh_actions
from assets.market.ingest import landing
from assets.market.ingest.ingest import ingest
from assets.market.ingest.lake import Lake
from assets.market.ingest.refusals import PayloadsRefusedError
from resources.errors import CandlecastError
from resources.layout import Home
from resources.sources.protocol import Reading, Source, Wanted
from resources.sources.qlib import QlibSource, qlib_reading
from resources.sources.ranges import Pace
from resources.warehouse import Warehouse
from tests.market.market_desk import Desk, make_desk_in

Answer = Callable[[str, dict[str, str]], "tuple[int, str]"]


class Provider:
    """A local provider: responds with `answer` and records the requests."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answer: Answer = lambda path, query: (404, "{}")
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlparse(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                provider.asked.append((url.path, query))
                status, body = provider.answer(url.path, query)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def provider() -> Iterator[Provider]:
    local = Provider()
    thread = threading.Thread(target=local.server.serve_forever, daemon=True)
    thread.start()
    yield local
    local.server.shutdown()


def land(source: Source, folder: Path, wanted: Wanted, refresh: bool = False) -> Desk:
    desk = make_desk_in(folder)
    Lake(Home(desk.home.root)).land(source, wanted, refresh)
    ingest(desk.lake, Warehouse(desk.home.warehouse))
    return desk


# Yahoo ---------------------------------------------------------------------------------------------------------------


def chart(days: list[str], closes: list[float], dividends: dict[str, float], splits: dict[str, float]) -> str:
    stamps = [int(datetime.fromisoformat(f"{day}T14:30:00").replace(tzinfo=UTC).timestamp()) for day in days]
    at = dict(zip(days, stamps, strict=True))
    events = {
        "dividends": {str(at[day]): {"amount": cash, "date": at[day]} for day, cash in dividends.items()},
        "splits": {
            str(at[day]): {"date": at[day], "numerator": ratio, "denominator": 1.0, "splitRatio": f"{ratio:g}:1"}
            for day, ratio in splits.items()
        },
    }
    quote = {
        "open": closes,
        "high": [close * 1.01 for close in closes],
        "low": [close * 0.99 for close in closes],
        "close": closes,
        "volume": [1000] * len(closes),
    }
    meta = {
        "currency": "USD",
        "symbol": "ACME",
        "exchangeName": "NYQ",
        "instrumentType": "EQUITY",
        "exchangeTimezoneName": "America/New_York",
        "timezone": "EST",
        "gmtoffset": -18000,
        "dataGranularity": "1d",
        "range": "",
        "validRanges": ["1d", "max"],
        "priceHint": 2,
        "firstTradeDate": stamps[0],
        "regularMarketTime": stamps[-1],
    }
    result = {
        "meta": meta,
        "timestamp": stamps,
        "events": events,
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": closes}]},
    }
    return json.dumps({"chart": {"result": [result], "error": None}})


DAYS = ["2012-01-03", "2012-01-04", "2012-01-05", "2012-01-06", "2012-01-09"]
WANTED = Wanted(("ACME",), date(2012, 1, 3), date(2012, 1, 9), "1d")


@pytest.fixture
def yahoo(provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    yfinance = pytest.importorskip("yfinance")
    from resources.sources.yahoo import YahooSource, yahoo_reading

    yfinance.set_tz_cache_location(str(tmp_path / "tz"))
    for module in ("yfinance.base", "yfinance.scrapers.history"):
        monkeypatch.setattr(f"{module}._BASE_URL_", provider.url)
    monkeypatch.setattr("yfinance.data.YfData._get_cookie_and_crumb", lambda self, timeout=30: ("crumb", "basic"))
    return YahooSource(yahoo_reading(Reading("XNYS", "1d")), first_wait=0.01, pace=Pace(0))


def test_yahoo_prices_are_restored_to_quoted_prices(provider: Provider, yahoo: Source, tmp_path: Path) -> None:
    # Yahoo shows 25 and 0.25 for what was quoted at 100 with a dividend of 1, before the split of 4 for 1.
    closes = [25.0, 24.5, 25.0, 26.0, 26.5]
    provider.answer = lambda path, query: (200, chart(DAYS, closes, {"2012-01-04": 0.25}, {"2012-01-06": 4.0}))
    desk = land(yahoo, tmp_path, WANTED)
    bars = desk.bars()
    assert bars["close"].tolist() == pytest.approx([100, 98, 100, 26, 26.5])
    assert bars["volume"].tolist() == [250, 250, 250, 1000, 1000]
    assert bars["session"].dt.strftime("%Y-%m-%d").tolist() == DAYS
    refresh_actions(desk.warehouse)
    actions = desk.warehouse.frame("FROM corporate_actions ORDER BY ex_date")
    assert actions[["kind", "value", "origin"]].to_numpy().tolist() == [
        ["dividend", 1.0, "source"],
        ["split", 4.0, "source"],
    ]
    assert actions["price_factor"].tolist() == pytest.approx([0.99, 0.25])


def test_yahoo_is_requested_again_after_too_many_requests(provider: Provider, yahoo: Source, tmp_path: Path) -> None:
    answers = iter([(429, "Too Many Requests"), (200, "Edge: Too Many Requests"), (503, "{}")])
    provider.answer = lambda path, query: next(answers, (200, chart(DAYS, [10.0] * 5, {}, {})))
    assert len(land(yahoo, tmp_path, WANTED).bars()) == 5


def test_an_unknown_symbol_is_an_error_that_names_it(provider: Provider, yahoo: Source, tmp_path: Path) -> None:
    error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
    provider.answer = lambda path, query: (200, json.dumps({"chart": {"result": None, "error": error}}))
    with pytest.raises(CandlecastError, match=r"yahoo ACME 2012-01-03"):
        land(yahoo, tmp_path, WANTED)


def test_the_error_about_a_failing_provider_has_the_number_of_attempts(
    provider: Provider, yahoo: Source, tmp_path: Path
) -> None:
    provider.answer = lambda path, query: (429, "Too Many Requests")
    with pytest.raises(CandlecastError, match=r"failed 5 times.*Try again later"):
        land(yahoo, tmp_path, WANTED)


def test_an_existing_range_is_not_requested_again(provider: Provider, yahoo: Source, tmp_path: Path) -> None:
    provider.answer = lambda path, query: (200, chart(DAYS, [10.0] * 5, {}, {}))
    desk = land(yahoo, tmp_path, WANTED)
    asked = len(provider.asked)
    inside = Wanted(("ACME",), date(2012, 1, 4), date(2012, 1, 6), "1d")
    assert desk.lake.land(yahoo, inside) == ([], None)
    assert len(provider.asked) == asked
    longer = Wanted(("ACME",), date(2012, 1, 4), date(2012, 1, 11), "1d")
    (request,) = desk.lake.missing(yahoo, longer)
    assert (request.first, request.last) == (date(2012, 1, 10), date(2012, 1, 11))
    assert len(desk.lake.missing(yahoo, inside, refresh=True)) == 1


def test_a_range_extended_at_both_ends_gives_two_new_payloads(
    provider: Provider, yahoo: Source, tmp_path: Path
) -> None:
    # Yahoo answers to today: the first of the gaps brings the rows of the second too.
    broken = json.loads(chart(DAYS, [10.0] * 5, {}, {}))
    broken["chart"]["result"][0]["indicators"]["quote"][0]["low"][0] = 11.0
    provider.answer = lambda path, query: (200, json.dumps(broken))
    land(yahoo, tmp_path, Wanted(("ACME",), date(2012, 1, 5), date(2012, 1, 5), "1d"))
    desk = land(yahoo, tmp_path, Wanted(("ACME",), date(2012, 1, 3), date(2012, 1, 9), "1d"))
    files = desk.warehouse.frame("SELECT file FROM payloads ORDER BY file")["file"].tolist()
    assert files == [
        "yahoo ACME 2012-01-03 … 2012-01-04",
        "yahoo ACME 2012-01-05 … 2012-01-05",
        "yahoo ACME 2012-01-06 … 2012-01-09",
    ]
    assert desk.rules() == ["low_above_high"] * 3
    assert conservation_errors(desk.warehouse, desk.lake) == []


def test_two_payloads_with_one_name_in_a_batch_are_distinguished(
    provider: Provider, yahoo: Source, tmp_path: Path
) -> None:
    provider.answer = lambda path, query: (200, chart(DAYS, [10.0] * 5, {}, {}))
    desk = make_desk_in(tmp_path)
    whole = Wanted(("ACME",), date(2012, 1, 3), date(2012, 1, 9), "1d")
    desk.lake.land(yahoo, Wanted(("ACME",), date(2012, 1, 5), date(2012, 1, 5), "1d"))
    desk.lake.land(yahoo, whole)
    file = desk.home.lake / "batches" / "00000002.json"
    file.write_text(re.sub(r'"file": "[^"]*"', '"file": "yahoo ACME"', file.read_text()))
    names = {payload.request.file for payload in desk.lake.batches()[1].payloads}
    assert len(names) == 2


EMPTY = json.dumps({"chart": {"result": None, "error": {"code": "Not Found", "description": "may be delisted"}}})


def test_a_suspended_symbol_does_not_stop_the_others(provider: Provider, yahoo: Source, tmp_path: Path) -> None:
    provider.answer = lambda path, query: (200, chart(DAYS, [10.0] * 5, {}, {}))
    land(yahoo, tmp_path, Wanted(("ACME", "BETA"), date(2012, 1, 3), date(2012, 1, 9), "1d"))
    more = ["2012-01-10", "2012-01-11"]
    provider.answer = lambda path, query: (200, EMPTY if "ACME" in path else chart(more, [11.0] * 2, {}, {}))
    longer = Wanted(("ACME", "BETA"), date(2012, 1, 3), date(2012, 1, 11), "1d")
    desk = land(yahoo, tmp_path, longer)
    assert desk.bars().groupby("symbol").size().to_dict() == {"ACME": 5, "BETA": 7}
    assert conservation_errors(desk.warehouse, desk.lake) == []
    # An old range without rows is settled; one of these days is asked for again, and nothing is written down.
    assert desk.lake.missing(yahoo, longer) == []
    today = datetime.now(UTC).date()
    provider.answer = lambda path, query: (200, EMPTY)
    assert desk.lake.land(yahoo, Wanted(("ACME",), today, today, "1d"))[1] is None


def test_fetched_payloads_are_committed_if_one_symbol_fails(provider: Provider, yahoo: Source, tmp_path: Path) -> None:
    answer = chart(DAYS, [10.0] * 5, {}, {})
    provider.answer = lambda path, query: (200, answer) if "ACME" in path else (429, "Too Many Requests")
    desk = make_desk_in(tmp_path)
    both = Wanted(("NOPE", "ACME"), date(2012, 1, 3), date(2012, 1, 9), "1d")
    with pytest.raises(PayloadsRefusedError, match=r"(?s)1 of 2 payloads.*the others are in the lake.*yahoo NOPE"):
        landing.land(desk.lake, desk.warehouse, yahoo, both)
    assert "yahoo NOPE" in desk.lake.refused(yahoo)[0]
    assert ingest(desk.lake, desk.warehouse).kept == 5
    (rest,) = desk.lake.missing(yahoo, both)
    assert rest.symbol == "NOPE"


def test_all_symbols_and_unknown_frequencies_are_refused(yahoo: Source) -> None:
    with pytest.raises(CandlecastError, match=r"market\.symbols"):
        yahoo.plan(Wanted(None, date(2012, 1, 1), date(2012, 1, 9), "1d"))
    with pytest.raises(CandlecastError, match=r"7min.*1min"):
        yahoo.plan(Wanted(("A",), date(2012, 1, 1), date(2012, 1, 9), "7min"))


# ccxt ----------------------------------------------------------------------------------------------------------------

HOUR = 3_600_000
MARKET = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "baseAssetPrecision": 8,
    "quotePrecision": 8,
    "isSpotTradingAllowed": True,
    "orderTypes": ["LIMIT"],
    "permissions": ["SPOT"],
    "filters": [],
}


@pytest.fixture
def binance(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Source:
    pytest.importorskip("ccxt")
    from resources.sources.ccxt import CcxtSource, ccxt_reading

    monkeypatch.setattr("resources.sources.ccxt.PAGE", 100)
    urls = {"api": {"public": f"{provider.url}/api/v3", "private": f"{provider.url}/api/v3"}}
    options = {
        "urls": urls,
        "enableRateLimit": False,
        "options": {"fetchMarkets": {"types": ["spot"]}, "fetchMargins": False},
    }
    return CcxtSource("binance", ccxt_reading(Reading("24/7", "1h")), options=options, first_wait=0.01)


def candles(query: dict[str, str], until: int) -> str:
    begin, count = int(query["startTime"]), int(query["limit"])
    # Like some exchanges: one candle before the one that was asked for.
    stamps = [stamp for stamp in range(begin - HOUR, begin + (count - 1) * HOUR, HOUR) if stamp <= until]
    return json.dumps([[s, "10", "11", "9", "10.5", "3", s + HOUR - 1, "30", 5, "1", "10", "0"] for s in stamps])


def exchange(until: int) -> Answer:
    def answer(path: str, query: dict[str, str]) -> tuple[int, str]:
        if "klines" in path:
            return 200, candles(query, until)
        return 200, json.dumps({"timezone": "UTC", "serverTime": 1, "symbols": [MARKET]})

    return answer


def test_pages_are_joined_without_gap_or_overlap(provider: Provider, binance: Source, tmp_path: Path) -> None:
    provider.answer = exchange(until=10**15)
    wanted = Wanted(("BTC/USDT",), date(2024, 3, 9), date(2024, 3, 18), "1h")
    bars = land(binance, tmp_path, wanted).bars()
    assert bars["symbol"].unique().tolist() == ["BTC-USDT"]
    expected = pd.date_range("2024-03-09", "2024-03-18 23:00", freq="h")
    assert bars["ts"].tolist() == expected.tolist()
    assert bars["flags"].map(len).sum() == len(expected) - 1  # all are stale: the same candle again and again
    assert sum("klines" in path for path, _ in provider.asked) == 3


def test_a_halt_of_several_pages_does_not_end_the_range(provider: Provider, binance: Source, tmp_path: Path) -> None:
    good = exchange(until=10**15)
    halt = range(*(int(datetime(2024, 3, day, tzinfo=UTC).timestamp() * 1000) for day in (9, 18)))

    def answer(path: str, query: dict[str, str]) -> tuple[int, str]:
        status, body = good(path, query)
        if "klines" in path:
            body = json.dumps([candle for candle in json.loads(body) if candle[0] not in halt])
        return status, body

    provider.answer = answer
    bars = land(binance, tmp_path, Wanted(("BTC/USDT",), date(2024, 3, 7), date(2024, 3, 19), "1h")).bars()
    assert bars["ts"].tolist() == [
        *pd.date_range("2024-03-07", "2024-03-08 23:00", freq="h"),
        *pd.date_range("2024-03-18", "2024-03-19 23:00", freq="h"),
    ]


def test_the_incomplete_newest_candle_is_dropped(provider: Provider, binance: Source, tmp_path: Path) -> None:
    provider.answer = exchange(until=10**15)
    today = datetime.now(UTC).date()
    bars = land(binance, tmp_path, Wanted(("BTC/USDT",), today, today, "1h")).bars() if datetime.now(UTC).hour else None
    if bars is not None:
        assert bars["ts"].max() + pd.Timedelta(hours=1) <= pd.Timestamp.now(tz="UTC").tz_localize(None)


def test_an_error_with_status_200_is_an_error(provider: Provider, binance: Source, tmp_path: Path) -> None:
    good = exchange(until=10**15)
    broken = (200, json.dumps({"code": -1121, "msg": "Invalid symbol."}))
    provider.answer = lambda path, query: broken if "klines" in path else good(path, query)
    with pytest.raises(CandlecastError, match=r"ccxt BTC-USDT"):
        land(binance, tmp_path, Wanted(("BTC/USDT",), date(2024, 3, 9), date(2024, 3, 10), "1h"))


def test_a_symbol_that_the_exchange_does_not_have_is_named(provider: Provider, binance: Source, tmp_path: Path) -> None:
    provider.answer = exchange(until=10**15)
    with pytest.raises(CandlecastError, match=r"binance.*FOO/BAR"):
        land(binance, tmp_path, Wanted(("FOO/BAR",), date(2024, 3, 9), date(2024, 3, 10), "1h"))


# akshare -------------------------------------------------------------------------------------------------------------


def test_a_shares_are_unadjusted_with_actions_from_the_backward_adjusted_close(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("akshare")
    import requests

    from resources.sources.akshare import AkshareSource, akshare_reading

    def line(day: str, close: float, high: float) -> str:
        return f"{day},{close},{close},{high},{close},1234,5678.0,1,1,1,1"

    raw = [line("2024-03-11", 10.0, 10.5), line("2024-03-12", 9.9, 10.5), line("2024-03-13", 9.8, 10.5)]
    hfq = [line("2024-03-11", 1000.0, 1050), line("2024-03-12", 1000.0, 1050), line("2024-03-13", 989.9, 1050)]
    broken = iter([(200, "<html>busy</html>")])

    def answer(path: str, query: dict[str, str]) -> tuple[int, str]:
        lines = hfq if query["fqt"] == "2" else raw
        return next(broken, (200, json.dumps({"data": {"code": "000001", "klines": lines}})))

    provider.answer = answer
    get = requests.get
    monkeypatch.setattr(requests, "get", lambda url, **given: get(re.sub(r"https://[^/]+", provider.url, url), **given))
    source = AkshareSource(akshare_reading(Reading("XSHG", "1d")), first_wait=0.01, pace=Pace(0))
    desk = land(source, tmp_path, Wanted(("000001",), date(2024, 3, 11), date(2024, 3, 13), "1d"))
    bars = desk.bars()
    assert bars["close"].tolist() == [10.0, 9.9, 9.8]
    assert bars["volume"].tolist() == [123_400.0] * 3
    assert bars["dividend"].fillna(0).tolist() == pytest.approx([0, 0.1, 0], abs=1e-4)
    assert {query["fqt"] for _, query in provider.asked} == {"0", "2"}


def test_an_action_between_two_requests_of_a_shares_is_found(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("akshare")
    import requests

    from resources.sources.akshare import AkshareSource, akshare_reading

    days = {"2024-03-11": (10.0, 1000.0), "2024-03-12": (9.9, 1000.0), "2024-03-13": (9.8, 989.9)}

    def answer(path: str, query: dict[str, str]) -> tuple[int, str]:
        place = 1 if query["fqt"] == "2" else 0
        lines = [
            ",".join([day, *[str(closes[place])] * 4, "1234", "5678.0", "1", "1", "1", "1"])
            for day, closes in days.items()
            if query["beg"] <= day.replace("-", "") <= query["end"]
        ]
        return 200, json.dumps({"data": {"code": "000001", "klines": lines}})

    provider.answer = answer
    get = requests.get
    monkeypatch.setattr(requests, "get", lambda url, **given: get(re.sub(r"https://[^/]+", provider.url, url), **given))
    source = AkshareSource(akshare_reading(Reading("XSHG", "1d")), first_wait=0.01, pace=Pace(0))
    for last in (11, 12, 13):
        desk = land(source, tmp_path, Wanted(("000001",), date(2024, 3, 11), date(2024, 3, last), "1d"))
    bars = desk.bars()
    assert bars["close"].tolist() == [10.0, 9.9, 9.8]
    assert bars["dividend"].fillna(0).tolist() == pytest.approx([0, 0.1, 0], abs=1e-4)
    assert not any("action_unknown" in flags for flags in bars["flags"])


# Qlib ----------------------------------------------------------------------------------------------------------------


def test_prices_of_a_qlib_bundle_are_restored_to_quoted_prices(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    folder = bundle / "features" / "acme"
    folder.mkdir(parents=True)
    (bundle / "calendars").mkdir()
    days = ["2012-01-03", "2012-01-04", "2012-01-05", "2012-01-06"]
    (bundle / "calendars" / "day.txt").write_text("\n".join(days) + "\n")
    factor = np.array([0.25, np.nan, 1.0])
    adjusted = {"open": [25, np.nan, 26], "high": [26, np.nan, 27], "low": [24, np.nan, 25], "close": [25, np.nan, 26]}
    for name, values in {**adjusted, "factor": factor, "volume": [4000, np.nan, 1000]}.items():
        np.hstack([1.0, np.asarray(values, dtype=float)]).astype("<f4").tofile(folder / f"{name}.day.bin")
    source = QlibSource(bundle, qlib_reading(Reading("XNYS", "1d")))
    # What a Mac leaves behind is no symbol, and no change of the bundle.
    before = source.fingerprint(source.plan(Wanted(None, date(2012, 1, 3), date(2012, 1, 9), "1d"))[0])
    (bundle / "features" / ".DS_Store").write_bytes(b"x")
    (bundle / "features" / ".hidden").mkdir()
    (folder / "._close.day.bin").write_bytes(b"x")
    assert source.fingerprint(source.plan(Wanted(None, date(2012, 1, 3), date(2012, 1, 9), "1d"))[0]) == before
    desk = land(source, tmp_path, Wanted(None, date(2012, 1, 3), date(2012, 1, 9), "1d"))
    bars = desk.bars()
    assert bars["close"].tolist() == [100.0, 26.0]
    assert bars["volume"].tolist() == [1000.0, 1000.0]
    assert bars["split"].fillna(1).tolist() == [1.0, 4.0]
    assert list(bars["flags"][1]) == ["after_gap"]
    (folder / "factor.day.bin").unlink()
    with pytest.raises(CandlecastError, match=r"acme: factor\.day\.bin is missing"):
        land(source, tmp_path, Wanted(None, date(2012, 1, 3), date(2012, 1, 9), "1d"))
