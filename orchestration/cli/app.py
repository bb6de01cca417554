"""The command line: the same jobs as in the UI, headless.

Exit status: 0 success, 1 failure of the work, 2 wrong use (settings included), 130 stopped.
"""

import atexit
import gc
import logging
import os
import signal
import sys

import typer

from orchestration.cli.commands import checkpoints, inspect, materialise, predict, results, system
from orchestration.cli.interrupts import interrupts
from orchestration.cli.session import INTERRUPTED

COMMANDS = (
    materialise.run,
    materialise.backfill,
    materialise.train,
    materialise.forecast,
    predict.predict,
    materialise.score,
    materialise.backtest,
    results.report,
    results.lineage,
    results.query,
    checkpoints.fetch,
    checkpoints.rollback,
    checkpoints.export,
    materialise.rebuild,
    inspect.inspect,
    inspect.init,
    system.doctor,
    system.settings,
    system.ui,
)

app = typer.Typer(
    help="Raw market bars in; validated data, forecasts and honest backtests out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """The entry point."""
    # A fifth of the time of imports goes into looking for garbage among modules; see `CommandSession.pipeline`.
    gc.disable()
    statuses: list[int] = []
    # What is registered first runs last: all that the command's modules opened has been closed by then.
    atexit.register(_leave, statuses)
    # A script's background jobs ignore Ctrl-C, and Dagster ignores SIGTERM then as well: nothing could stop a run.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with interrupts.recording():
        try:
            app()
        except SystemExit as end:
            if end.code == INTERRUPTED:
                # Native threads of the interrupted work may still run; Python's own shutdown aborts on them.
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(INTERRUPTED)
            if isinstance(end.code, int):
                statuses.append(end.code)
            raise
        finally:
            gc.unfreeze()  # else the interpreter ends without its last collection, and DuckDB's binding reports leaks


def _leave(statuses: list[int]) -> None:
    """End the process with the status of its command, without freeing each module, which takes half a second."""
    if not statuses:
        return  # an error of which the interpreter knows the status
    logging.shutdown()  # registered before this, so the interpreter would do it after this
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return  # a closed pipe, which the interpreter reports
    os._exit(statuses[0])
