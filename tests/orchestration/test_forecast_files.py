"""The files of `candlecast forecast`, and the levels that it shows."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from orchestration.cli.app import app
from orchestration.cli.forecast_files import CSV_INDEX, ForecastFiles, as_table
from orchestration.cli.forecast_origin import ForecastOrigin
from resources.warehouse import Warehouse

ORIGIN = ForecastOrigin(date(2012, 6, 1), np.datetime64("2012-06-01", "ns"), [], None)
LEVELS = [0.02, 0.1, 0.25, 0.3, 0.5, 0.7, 0.75, 0.9, 0.98]


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """Forecasts of two fields over three steps, of the checkpoint in use and of another one."""
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    rows = [
        (checkpoint, field, step, level, 100 + step + level)
        for checkpoint in ("used", "other")
        for field in ("close", "volume")
        for step in (1, 2, 3)
        for level in LEVELS
    ]
    frame = pd.DataFrame(rows, columns=["checkpoint", "field", "step", "level", "value"]).assign(
        model="kronos",
        symbol="BRK.B",
        origin=pd.Timestamp("2012-06-01"),
        made_at=pd.Timestamp("2012-06-02"),
        target_ts=pd.Timestamp("2012-06-04"),
        in_sample=False,
    )
    with warehouse.write() as connection:
        connection.register("rows", frame)
        connection.execute("INSERT INTO forecast_quantiles BY NAME SELECT * FROM rows")
    return warehouse


def test_the_csv_has_every_step_field_and_level_and_may_be_written_again(tmp_path: Path, warehouse: Warehouse) -> None:
    files = ForecastFiles(csv=tmp_path / "out.csv")
    for _ in range(2):
        assert files.problem() is None
        files.write(ORIGIN, warehouse, {"kronos": "used"}, "1d")
    read = pd.read_csv(tmp_path / "out.csv")
    assert list(read.columns) == [*CSV_INDEX, *map(str, LEVELS)]
    assert len(read) == 2 * 3
    assert set(read["checkpoint"]) == {"used"}
    assert read.loc[(read["field"] == "volume") & (read["step"] == 3), "0.02"].item() == pytest.approx(103.02)


def test_a_file_of_bars_is_not_overwritten(tmp_path: Path) -> None:
    bars = tmp_path / "bars.csv"
    bars.write_text("symbol,date,open\nIBM,2012-01-03,1\n")
    done = CliRunner().invoke(app, ["forecast", "--csv", str(bars), "--home", str(tmp_path / "home")])
    assert done.exit_code == 2
    assert bars.read_text().endswith("IBM,2012-01-03,1\n")
    assert "bars.csv" in str(ForecastFiles(csv=bars).problem())


@pytest.mark.parametrize(("name", "fact"), [("fans.jpg", ".png"), ("missing/fans.png", "missing"), (".png", ".png")])
def test_a_plot_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path, name: str, fact: str) -> None:
    (tmp_path / ".png").mkdir()
    assert fact in str(ForecastFiles(plot=tmp_path / name).problem())


def test_the_levels_of_the_settings_are_shown_and_of_many_the_ends_of_intervals(warehouse: Warehouse) -> None:
    quantiles = ORIGIN.quantiles(warehouse, {"kronos": "used"}, fields=["close"], steps=[1, 3])
    assert list(quantiles.columns[-len(LEVELS) :]) == list(map(str, LEVELS))
    header, *_, last = as_table(quantiles).splitlines()
    assert header.split()[-7:] == ["0.02", "0.1", "0.25", "0.5", "0.75", "0.9", "0.98"]
    assert "7 of 9" in last
    few = as_table(quantiles.drop(columns=["0.02", "0.1", "0.25", "0.75", "0.9", "0.98"]))
    assert few.splitlines()[0].split()[-3:] == ["0.3", "0.5", "0.7"]
    both = as_table(pd.concat([quantiles, quantiles.assign(model="kronos_recalibrated")]))
    assert both.splitlines()[:-1] == as_table(quantiles).splitlines()[:-1] and "1 recalibrated" in both


@pytest.mark.parametrize(
    "command", [["train", "--model", "gpt"], ["train", "--device", "tpu"], ["run", "--device", ""]]
)
def test_an_unknown_model_or_device_is_wrong_use(tmp_path: Path, command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--home", str(tmp_path)])
    assert done.exit_code == 2
    assert not list(tmp_path.iterdir())
