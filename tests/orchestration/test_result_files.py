"""The webserver serves pictures and reports of the home, and nothing else of it."""

from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from assets.metadata import picture, served_report
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
