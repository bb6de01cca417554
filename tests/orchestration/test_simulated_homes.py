"""Homes of the benchmark of orchestration: what their simulated bars are, and how the next session's arrive."""

from pathlib import Path

import pandas as pd

from benchmarks.orchestration.homes import END, TRAINED, SimulatedHome, simulated_bars, simulated_sessions
from resources.profiles import load_settings


def test_bars_keep_the_contract_and_do_not_depend_on_the_number_of_symbols() -> None:
    bars = simulated_bars(3)
    assert (bars["low"] <= bars[["open", "close"]].min(axis=1)).all() and (bars["low"] > 0).all()
    assert (bars["high"] >= bars[["open", "close"]].max(axis=1)).all()
    assert not bars.duplicated(["symbol", "date"]).any() and len(bars) == 3 * len(simulated_sessions())
    alone = bars[bars["symbol"] < "S002"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, simulated_bars(2))


def test_a_home_has_its_years_of_origins_and_each_evening_adds_the_bars_of_one_session(tmp_path: Path) -> None:
    home = SimulatedHome.create(tmp_path / "home", 2, 1, TRAINED.format(every=21))
    windows = load_settings(home.settings, home=home.home).windows
    assert (windows.test[1] - windows.test[0]).days == 364 and windows.test[1] == END
    after = simulated_sessions()[simulated_sessions() > pd.Timestamp(END)]
    assert [home.next_session() for _ in range(2)] == [after[0].date(), after[1].date()]
    added = pd.read_parquet(home.folder / "bars" / f"{after[1]:%Y-%m-%d}.parquet")
    assert added["symbol"].tolist() == ["S000", "S001"] and set(added["date"]) == {after[1]}
