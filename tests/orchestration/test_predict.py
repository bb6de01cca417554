"""`candlecast predict`: files in, forecasts on the terminal or in files, exit statuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from assets.forecasting.series.models import PACKAGED_FOLDER
from assets.forecasting.series.tables import Resample
from orchestration.cli import series_files
from orchestration.cli.app import app
from orchestration.cli.commands.predict import FORMATS, RESAMPLE
from resources.checkpoints import UNNAMED
from resources.publish import digest_of_folder

PACKAGED_DIGEST = digest_of_folder(PACKAGED_FOLDER, UNNAMED)[:16]
VALUES = np.round(30 + np.cumsum(np.random.default_rng(8).normal(size=60)), 3)
DAYS = pd.date_range("2019-06-03", periods=60, freq="D")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    own = pd.DataFrame({"day": DAYS, "sales": VALUES})
    own.to_csv("sales.csv", index=False)
    pd.concat([own.assign(shop=shop) for shop in ("one", "two")]).to_parquet("shops.parquet")
    (tmp_path / "bad.csv").write_text(
        "shop,day,sales\n" + "".join(f"one,{day:%Y-%m-%d},{n}\n" for n, day in enumerate(DAYS)) + "two,2019-06-03,x7\n"
    )
    return tmp_path


def call(*arguments: str) -> Result:
    done = CliRunner().invoke(app, ["predict", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_forecasts_go_to_files_of_all_three_kinds(folder: Path) -> None:
    options = ["--timestamp", "day", "--target", "sales", "--horizon", "5", "--levels", "0.25,0.5,0.75"]
    for name in ("out.csv", "out.parquet", "out.json"):
        done = call("sales.csv", *options, "--out", name, "--plot", "fan.png")
        assert done.exit_code == 0, done.output
        assert f"digest {PACKAGED_DIGEST}" in done.stdout
    made: list[pd.DataFrame] = [pd.read_csv("out.csv"), pd.read_parquet("out.parquet"), pd.read_json("out.json")]
    for one in made:
        assert list(one.columns) == ["id", "target", "step", "timestamp", "0.25", "0.5", "0.75"]
        np.testing.assert_allclose(one["0.75"], made[0]["0.75"])
    assert (folder / "fan.png").read_bytes().startswith(b"\x89PNG")
    assert made[1]["timestamp"].tolist() == list(pd.date_range(DAYS[-1], periods=6)[1:])


def test_all_of_a_result_is_json(folder: Path) -> None:
    done = call("shops.parquet", "--id", "shop", "--timestamp", "day", "--target", "sales", "--holdout", "7", "--json")
    result = json.loads(done.stdout)
    assert result["ok"] and result["model"]["digest"].startswith(PACKAGED_DIGEST)
    assert {one["model"] for one in result["scores"]} == {"chronos2", "naive", "seasonal_naive"}
    assert (result["frequency"], result["season"], len(result["forecasts"])) == ("D", 7, 14)


def test_a_bad_series_is_listed_and_the_exit_status_is_1(folder: Path) -> None:
    options = ["bad.csv", "--id", "shop", "--timestamp", "day", "--horizon", "2", "--model", "naive", "--format", "csv"]
    done = call(*options)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1].startswith("one,sales,1,2019-08-02")
    assert "two" in done.stderr and "row 61" in done.stderr and "x7" in done.stderr
    assert call(*options, "--skip-bad").exit_code == 0


def test_a_series_that_is_forecast_and_not_scored_is_not_listed_as_not_forecast(folder: Path) -> None:
    done = call(
        "bad.csv", "--id", "shop", "--timestamp", "day", "--horizon", "1", "--holdout", "59", "--model", "naive"
    )
    assert done.exit_code == 1 and "not scored: one" in done.stderr and "not forecast: one" not in done.stderr


def test_the_choices_of_options_are_those_of_the_library() -> None:
    assert get_args(Resample) == RESAMPLE and tuple(series_files.FORMATS) == FORMATS


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sales.csv"], "--horizon"),
        (["sales.csv", "--horizon", "2", "--levels", "low"], "--levels low"),
        (["sales.csv", "--horizon", "2", "--out", "sales.csv"], "--out sales.csv"),
        (["sales.csv", "--horizon", "2", "--out", "made.xlsx"], "made.xlsx"),
        (["sales.csv", "--horizon", "2", "--resample", "median"], "--resample median"),
    ],
)
def test_wrong_use_is_refused_before_any_work(folder: Path, arguments: list[str], named: str) -> None:
    done = call(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert named in done.stderr
    assert (folder / "sales.csv").read_text().startswith("day,sales")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["none.csv", "--horizon", "2"], "none.csv"),
        (["sales.csv", "--horizon", "2", "--target", "slaes"], "sales"),
        (
            ["sales.csv", "--horizon", "2", "--timestamp", "day", "--model", "some/where@v2"],
            "candlecast fetch --profile sample some/where@v2",
        ),
        (["sales.csv", "--horizon", "2", "--timestamp", "day", "--model", "nobody"], "packaged"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_not_there_is_named(arguments: list[str], named: str) -> None:
    done = call(*arguments)
    assert done.exit_code == 1 and named in done.stderr


def test_a_row_with_more_cells_than_the_header_is_named(folder: Path) -> None:
    (folder / "export.csv").write_text("day,sales\n2019-06-03,1234,5\n2019-06-04,1250,1\n2019-06-05,1300,2\n")
    done = call("export.csv", "--horizon", "2")
    assert done.exit_code == 1 and "export.csv, line 2: 3 cells" in done.stderr
    (folder / "export.csv").write_text("day,sales\n2019-06-03,12,\n2019-06-04,14,\n2019-06-05,13,\n")
    assert call("export.csv", "--timestamp", "day", "--horizon", "2", "--model", "naive").exit_code == 0


def test_decimal_commas_and_semicolons_are_read(folder: Path) -> None:
    rows = [f"{day:%d.%m.%Y};{str(value).replace('.', ',')}" for day, value in zip(DAYS, VALUES, strict=True)]
    (folder / "export.csv").write_text("Datum;Umsatz\n" + "\n".join(rows) + "\n")
    options = ["--timestamp", "Datum", "--date-format", "%d.%m.%Y", "--horizon", "1", "--model", "naive", "--json"]
    (made,) = json.loads(call("export.csv", *options).stdout)["forecasts"]
    assert made["0.5"] == VALUES[-1] and made["timestamp"].startswith("2019-08-02")
