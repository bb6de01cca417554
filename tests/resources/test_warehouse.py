"""The warehouse: transactions, waiting for other processes, schema versions, interruption."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from resources.errors import SchemaVersionError, WarehouseBusyError
from resources.schema import MIGRATIONS, SCHEMA_VERSION
from resources.warehouse import Warehouse

HOLDING = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('held', flush=True); time.sleep({})"
WRITING = """
import sys, pathlib
from resources.warehouse import Warehouse
warehouse = Warehouse(pathlib.Path(sys.argv[1]))
for n in range(5):
    with warehouse.write() as c:
        c.execute("INSERT INTO backtests VALUES (?, 'm', 0)", [f"{sys.argv[2]}-{n}"])
"""
# Ctrl-C a little later each time, in reading and in writing in turn; after each the warehouse opens.
INTERRUPTED = """
import os, pathlib, signal, sys, threading
from resources.warehouse import Warehouse
signal.signal(signal.SIGINT, signal.default_int_handler)
warehouse, interrupted = Warehouse(pathlib.Path(sys.argv[1])), 0
for number in range(100):
    timer = threading.Timer(number / 10_000, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        while True:
            with warehouse.write() if number % 2 else warehouse.read() as connection:
                connection.execute("FROM backtests")
    except KeyboardInterrupt:
        interrupted += 1
    warehouse.rows("FROM backtests")
print(interrupted)
"""


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "w.duckdb", wait=30)


def _hold(path: Path, seconds: float) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING.format(seconds), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "held"
    return holder


def test_a_failed_transaction_writes_nothing(warehouse: Warehouse) -> None:
    with pytest.raises(RuntimeError), warehouse.write() as connection:
        connection.execute("INSERT INTO backtests VALUES ('a', 'm', 0)")
        raise RuntimeError("stop")
    assert warehouse.frame("FROM backtests").empty


def test_a_new_file_with_the_inode_of_a_deleted_one_gets_its_tables(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Warehouse, "_file", property(lambda self: (str(self.path), 1)))
    with warehouse.write() as connection:
        connection.execute("INSERT INTO backtests VALUES ('a', 'm', 0)")
    for query in (warehouse.frame, Warehouse(warehouse.path).frame):
        warehouse.path.unlink()
        assert query("FROM backtests").empty


def test_a_warehouse_of_an_earlier_version_gets_missing_tables(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warehouse.write() as connection:
        connection.execute("INSERT INTO backtests VALUES ('a', 'm', 0)")
        connection.execute("DROP TABLE scored_actuals")
        connection.execute("DROP TABLE schema_version")
    monkeypatch.setattr("resources.warehouse._current", set())
    later = Warehouse(warehouse.path)
    assert later.frame("FROM scored_actuals").empty
    assert len(later.frame("FROM backtests")) == 1


@pytest.mark.parametrize("access", ["read", "write"])
def test_a_warehouse_of_a_newer_version_is_refused(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, access: str
) -> None:
    with warehouse.write() as connection:
        connection.execute("UPDATE schema_version SET version = 999")
    monkeypatch.setattr("resources.warehouse._current", set())
    refused = pytest.raises(SchemaVersionError, match=rf"{warehouse.path.name}.* 999.* {SCHEMA_VERSION}\b")
    with refused, getattr(Warehouse(warehouse.path), access)():
        pass


def test_a_migration_runs_once(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse.frame("SELECT 1")
    later = SCHEMA_VERSION + 1
    monkeypatch.setattr("resources.warehouse._current", set())
    monkeypatch.setattr("resources.schema.SCHEMA_VERSION", later)
    monkeypatch.setitem(MIGRATIONS, later, "INSERT INTO backtests VALUES ('migrated', 'm', 0)")
    for _ in range(2):
        assert len(Warehouse(warehouse.path).frame("FROM backtests")) == 1
        monkeypatch.setattr("resources.warehouse._current", set())
    assert warehouse.frame("FROM schema_version")["version"].tolist() == [later]


def test_a_home_of_an_earlier_version_gets_the_present_view_of_adjusted_bars(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = "SELECT sql FROM duckdb_views() WHERE view_name = 'adjusted_bars'"
    present = warehouse.rows(shown)
    with warehouse.write() as connection:
        connection.execute("CREATE OR REPLACE VIEW adjusted_bars AS SELECT 1 AS earlier")
        connection.execute("UPDATE schema_version SET version = 12")
    monkeypatch.setattr("resources.warehouse._current", set())
    assert Warehouse(warehouse.path).rows(shown) == present


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No garbage collection: its callbacks, as hypothesis has one, and finalisers swallow the exception of a signal."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("access", ["read", "write"])
def test_ctrl_c_in_a_query_is_ctrl_c(warehouse: Warehouse, access: str) -> None:
    warehouse.frame("SELECT 1")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt), getattr(warehouse, access)() as connection:
            while True:
                connection.execute("SELECT sum(sin(range)) FROM range(1_000_000)")
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(KeyboardInterrupt), getattr(warehouse, access)():
        raise RuntimeError("Query interrupted")  # DuckDB's message


def test_a_warehouse_opens_after_ctrl_c_at_any_moment(warehouse: Warehouse) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(warehouse.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "100\n", done.stderr


def test_a_read_stays_open_when_a_generator_that_reads_is_closed(warehouse: Warehouse) -> None:
    def rows() -> Generator[int]:
        with warehouse.read():
            yield 1

    with warehouse.read() as connection:
        others = rows()
        next(others)
        others.close()
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_a_busy_warehouse_is_waited_for(warehouse: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    warehouse.frame("SELECT 1")
    holder = _hold(warehouse.path, 1.5)
    with caplog.at_level("WARNING"):
        assert len(warehouse.frame("SELECT 1")) == 1
    assert holder.wait() == 0
    assert "waiting" in caplog.text


def test_the_error_about_a_busy_warehouse_names_the_process(warehouse: Warehouse) -> None:
    warehouse.frame("SELECT 1")
    holder = _hold(warehouse.path, 60)
    try:
        with pytest.raises(WarehouseBusyError, match=str(holder.pid)):
            Warehouse(warehouse.path, wait=1).frame("SELECT 1")
    finally:
        holder.kill()
        holder.wait()


def test_a_killed_writer_leaves_neither_a_lock_nor_rows(warehouse: Warehouse) -> None:
    code = (
        "import sys, time, pathlib\nfrom resources.warehouse import Warehouse\n"
        "with Warehouse(pathlib.Path(sys.argv[1])).write() as c:\n"
        "    c.execute(\"INSERT INTO backtests VALUES ('a', 'm', 0)\"); print('in', flush=True); time.sleep(60)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(warehouse.path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    writer.stdout.readline()
    writer.kill()
    writer.wait()
    assert warehouse.frame("FROM backtests").empty


def test_concurrent_writers_lose_no_row(warehouse: Warehouse) -> None:
    warehouse.frame("SELECT 1")
    command = [sys.executable, "-c", WRITING, str(warehouse.path)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert warehouse.frame("SELECT count(DISTINCT model) AS n FROM backtests")["n"][0] == 15


def test_the_version_changes_with_every_change_by_any_process_and_with_nothing_else(warehouse: Warehouse) -> None:
    assert warehouse.version is None and Warehouse(":memory:").version is None
    versions = list[str | None]()
    for change in ("INSERT INTO backtests VALUES ('a', 'm', 0)", "UPDATE backtests SET value = 1", "SELECT 1"):
        with warehouse.write() as connection:
            versions.append(warehouse.version)
            connection.execute(change)
        warehouse.frame("FROM backtests")
        versions.append(warehouse.version)
    subprocess.run([sys.executable, "-c", WRITING, str(warehouse.path), "other"], check=True)
    assert versions[1] == versions[2] != versions[3] == versions[4] == versions[5] != warehouse.version
    assert None not in versions and versions[0] != versions[1]


def test_a_version_never_comes_back_after_a_copy_was_put_back(warehouse: Warehouse, tmp_path: Path) -> None:
    def write(value: int) -> str | None:
        with warehouse.write() as connection:
            connection.execute("INSERT OR REPLACE INTO backtests VALUES ('a', 'm', ?)", [value])
        return warehouse.version

    write(0)
    shutil.copy(warehouse.path, tmp_path / "copy")
    changed = write(1)
    # The headers are the same again after as many writes.
    for restore in (shutil.copy, shutil.move):
        restore(tmp_path / "copy", warehouse.path)
        assert write(2) != changed


def test_the_version_that_a_write_left_is_not_that_of_a_later_write(warehouse: Warehouse) -> None:
    for value in range(2):
        with warehouse.write(versioned=True) as connection:
            connection.execute("INSERT OR REPLACE INTO backtests VALUES ('a', 'm', ?)", [value])
        assert warehouse.written == warehouse.version
    subprocess.run([sys.executable, "-c", WRITING, str(warehouse.path), "other"], check=True)
    assert warehouse.written != warehouse.version


def test_a_read_connection_cannot_write(warehouse: Warehouse) -> None:
    with warehouse.read() as connection, pytest.raises(Exception, match="read-only"):
        connection.execute("INSERT INTO backtests VALUES ('a', 'm', 0)")


def test_shared_reads_see_every_write_and_release_the_file_at_the_end(warehouse: Warehouse) -> None:
    other = Warehouse(warehouse.path)
    insert = "INSERT INTO backtests VALUES (?, 'm', 0)"
    with warehouse.shared_reads():
        for number in range(2):
            assert len(warehouse.rows("FROM backtests")) == len(other.frame("FROM backtests")) == number
            with other.write() as connection:
                connection.execute(insert, [f"{number}"])
        assert [row["model"] for row in warehouse.rows("FROM backtests ORDER BY model")] == ["0", "1"]
        with pytest.raises(subprocess.CalledProcessError):
            subprocess.run([sys.executable, "-c", HOLDING.format(0), str(warehouse.path)], check=True)
    subprocess.run([sys.executable, "-c", HOLDING.format(0), str(warehouse.path)], check=True)


def test_files_of_one_name_are_read_in_turn_and_within_each_other(tmp_path: Path) -> None:
    houses = [Warehouse(tmp_path / folder / "it's.duckdb") for folder in ("a", "b")]
    for number, one in enumerate(houses):
        with one.write() as connection:
            connection.execute("INSERT INTO backtests VALUES (?, 'm', 0)", [f"{number}"])
    with houses[0].read() as outer, houses[1].read() as inner:
        found = [connection.execute("SELECT model FROM backtests").fetchall() for connection in (outer, inner)]
    assert found == [[("0",)], [("1",)]]
    assert [one.rows("SELECT model FROM backtests")[0]["model"] for one in houses] == ["0", "1"]


def test_settings_of_a_connection_that_stands_alone_end_with_it(warehouse: Warehouse) -> None:
    warehouse.frame("SELECT 1")
    with warehouse.read(alone=True) as connection:
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    with warehouse.write() as connection:
        connection.execute("INSERT INTO backtests VALUES ('a', 'm', 0)")
    assert len(warehouse.rows("FROM backtests")) == 1


def test_a_forked_process_opens_the_file_anew(warehouse: Warehouse) -> None:
    code = (
        "import os, sys, pathlib\nfrom resources.warehouse import Warehouse\n"
        "one = Warehouse(pathlib.Path(sys.argv[1])); one.rows('SELECT 1'); child = os.fork()\n"
        "if not child: os._exit(len(one.rows('SELECT sum(range) FROM range(1_000_000)')))\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) - 1)"
    )
    subprocess.run([sys.executable, "-c", code, str(warehouse.path)], check=True, timeout=60)
