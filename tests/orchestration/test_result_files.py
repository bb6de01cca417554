"""The webserver serves pictures and reports of the home, and nothing else of it."""

import asyncio
from pathlib import Path

import dagster as dg
import dagster_webserver
import pandas as pd
import pytest
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.testclient import TestClient

from assets.forecasting.plots import calibration_chart
from assets.market.plots import counts_picture
from assets.metadata import chart, picture, served_report
from assets.plots import figure, png
from orchestration.result_files import ResultFiles
from resources.layout import Home


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    (tmp_path / "profile.json").write_text("private")
    return TestClient(ResultFiles(PlainTextResponse("dagster"), tmp_path))


def test_a_picture_of_a_page_is_short_markdown_that_links_to_files_that_are_served(
    tmp_path: Path, client: TestClient
) -> None:
    with figure(12, 2) as drawn:
        drawn.add_subplot()
        content = png(drawn)
    markdown = str(picture(content, Home(tmp_path)).md_str)
    assert len(markdown) < 1000, "longer Markdown is hidden behind a button"
    shown, full = (part.split(")")[0] for part in markdown.split("](")[1:])
    assert client.get(full).content == content
    smaller = client.get(shown).content
    assert smaller.startswith(b"\x89PNG") and int.from_bytes(smaller[16:20], "big") <= 520
    assert client.post(full).status_code == 404


def test_a_chart_is_drawn_when_it_is_looked_at_first(tmp_path: Path, client: TestClient) -> None:
    home = Home(tmp_path)
    counts = pd.Series([3, 40], ["bad_ohlc", "gap"])
    address = _address(chart(home, counts_picture, counts, "Flagged bars"))
    assert [file.suffix for file in home.pictures.iterdir()] == [".json"]
    app = ResultFiles(PlainTextResponse("dagster"), tmp_path)

    async def browse() -> list[Response]:
        ends = ("-page.png", ".png", ".png", "-page.png")
        return await asyncio.gather(*(app.answer("GET", f"{address}{end}") for end in ends))

    page, full, *others = [bytes(one.body) for one in asyncio.run(browse())]
    expected = counts_picture(counts, "Flagged bars")
    assert full == expected and page != expected and others == [full, page]
    assert client.get(f"{address}.png").content == full
    assert (home.pictures / f"{address.rpartition('/')[2]}.png").read_bytes() == expected
    next(home.pictures.glob("*.json")).unlink()
    assert client.get(f"{address}-page.png").content == page


def test_a_chart_that_cannot_be_drawn_is_an_answer_with_the_reason(
    tmp_path: Path, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    address = _address(chart(Home(tmp_path), calibration_chart, {"har": pd.DataFrame({"level": [0.5]})}))
    answer = client.get(f"{address}-page.png")
    assert answer.status_code == 500 and "share" in answer.text and "calibration" in answer.text
    assert "share" in caplog.text
    (data,) = Home(tmp_path).pictures.iterdir()
    data.write_bytes(data.read_bytes()[1:])
    damaged = client.get(f"{address}.png")
    assert damaged.status_code == 404 and data.name in damaged.text and "candlecast run" in damaged.text


def test_a_chart_that_cannot_be_stored_is_shown(tmp_path: Path, client: TestClient) -> None:
    home = Home(tmp_path)
    address = _address(chart(home, counts_picture, pd.Series([1], ["gap"]), "Flagged bars"))
    (home.pictures / f"{address.rpartition('/')[2]}.png").mkdir()
    assert client.get(f"{address}.png").content == counts_picture(pd.Series([1], ["gap"]), "Flagged bars")


def test_pictures_on_dagsters_pages_are_as_narrow_as_their_column(tmp_path: Path) -> None:
    """Seen in a browser: a picture of 520 pixels ends inside a window of 1,300, and was cut off."""
    build = Path(dagster_webserver.__file__).parent / "webapp" / "build"
    page, style = (build / "index.html").read_bytes(), b"<style>.dagster-markdown img { max-width: 100% }</style>"
    answer = TestClient(ResultFiles(HTMLResponse(page), tmp_path)).get("/assets/input_drift")
    assert answer.content == page.replace(b"</head>", style + b"</head>") and style in answer.content
    assert answer.headers["content-length"] == str(len(answer.content))
    assert any("dagster-markdown" in file.read_text(errors="ignore") for file in build.rglob("*.js"))
    headless = TestClient(ResultFiles(HTMLResponse("<p>fine</p>"), tmp_path)).get("/")
    assert headless.text == "<p>fine</p>" and headless.headers["content-length"] == "11"
    plain = TestClient(ResultFiles(PlainTextResponse("<head></head>"), tmp_path)).get("/")
    assert plain.text == "<head></head>"


def _address(shown: dg.MarkdownMetadataValue) -> str:
    """The address of a picture, without its ending."""
    return str(shown.md_str).rpartition("](")[2].removesuffix(".png)")


def test_a_report_is_served_without_scripts(tmp_path: Path, client: TestClient) -> None:
    report = tmp_path / "reports" / ("a" * 64) / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("<p>fine</p>")
    answer = client.get(str(served_report("a" * 64).url))
    assert answer.text == "<p>fine</p>"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    ["/candlecast/profile.json", "/candlecast/pictures/../profile.json", "/candlecast/pictures/%2e%2e/profile.json"],
)
def test_no_other_file_is_served(client: TestClient, path: str) -> None:
    assert "private" not in client.get(path).text
    assert client.get("/assets").text == "dagster"
