"""The password in the warehouse's URI leaves no process: searched for in all that a run writes and prints."""

from pathlib import Path

import pytest

from tests.orchestration.cli_project import SMALL, CliProject

PASSWORD = "Tr0ub4dor"
COMMANDS = (
    ("run",),
    ("report", "--json"),
    ("lineage", "backtest_report", "--json"),
    ("query", "SELECT * FROM duckdb_databases()"),
    ("query", "SELECT * FROM nothing"),
    ("doctor",),
)


@pytest.mark.slow
def test_a_password_of_the_warehouse_is_in_no_report_record_or_output(tmp_path: Path) -> None:
    project = CliProject(tmp_path, SMALL + '\n[profiles.sample]\nsecrets = "secrets.toml"\n')
    (tmp_path / "stores").mkdir()
    location = f"duckdb:{tmp_path}/stores/w password={PASSWORD}.duckdb"
    (tmp_path / "secrets.toml").write_text(f'warehouse = "{location}"\n')
    printed = ""
    for command in COMMANDS:
        done = project.call(*command)
        assert done.returncode == (1 if "nothing" in command[-1] else 0), done.stderr
        printed += done.stdout + done.stderr
    assert PASSWORD not in printed
    written = [file for file in project.home.rglob("*") if file.is_file()]
    assert any(file.name == "report.html" for file in written) and any(file.name == "runs.db" for file in written)
    assert [file for file in written if PASSWORD.encode() in file.read_bytes()] == []
    reports = [file for file in written if "reports" in file.parts and file.suffix in (".html", ".json")]
    assert [file for file in reports if str(tmp_path).encode() in file.read_bytes()] == []
