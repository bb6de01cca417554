"""Running a fitting process and listening to it: progress on the way, and its own words when it fails.

Training has a process of its own because chronos' `fit` resets global generators, because torchrun wants to start it,
and because a process gives its memory back. Not here: what it does (assets.training.fit).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from pathlib import Path

from assets.training.fit import ERROR, PROGRESS
from assets.training.job import RESULT, Job, Result
from resources.errors import CandlecastError
from resources.progress import Progress, silent
from resources.settings import ComputeSettings

MODULE = "assets.training.fit"
LAST_LINES = 12
# What the workers that are left say, in gloo's and NCCL's words, when another has gone.
LOST_WORKER = ("Connection reset by peer", "Connection closed by peer", "remote process exited")
PROJECT = Path(__file__).resolve().parents[2]


def run_job(job: Job, progress: Progress = silent) -> Result:
    """Run one job to its end.

    Raises:
        CandlecastError: it failed, in its own words; or it was ended from outside.
    """
    job.work.mkdir(parents=True, exist_ok=True)
    file = job.work / "job.json"
    file.write_text(job.model_dump_json(indent=1))
    listen([*_launcher(job.compute), MODULE, str(file)], job.kind, progress)
    if not (job.out / RESULT).is_file():
        raise CandlecastError(f"{job.kind}: the training process left no result: run it again")
    return Result.model_validate_json((job.out / RESULT).read_text())


def listen(command: list[str], name: str, progress: Progress = silent) -> None:
    """Run a command that speaks in lines of JSON to its end.

    Raises:
        CandlecastError: it failed, in its own words; or it was ended from outside.
    """
    words: deque[str] = deque(maxlen=LAST_LINES)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=PROJECT,
        env=_environment(),
    )
    failed = None
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said = _spoken(line)
            if PROGRESS in said:
                progress(*said[PROGRESS])
            elif ERROR in said:
                failed = failed or said[ERROR]
            elif line.strip():
                words.append(line.rstrip())
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if failed and any(sign in failed for sign in LOST_WORKER):
        raise CandlecastError(
            f"{name}: a worker among several was lost (killed, or out of memory?). Run it again: it goes on from its "
            f"last saved state. The others said: {failed}"
        )
    if failed:
        raise CandlecastError(f"{name}: {failed}")
    if code != 0:
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        hint = " (out of memory?)" if code == -9 else ""
        raise CandlecastError(
            f"{name}: the process {ended}{hint}. Run it again: it goes on from its last saved state. "
            "It said last:\n" + "\n".join(words)
        )


def _launcher(compute: ComputeSettings) -> list[str]:
    if compute.processes == 1 and compute.nodes == 1:
        return [sys.executable, "-m"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={compute.processes}"]
    if compute.rendezvous is None:
        return [*torchrun, "--standalone", "-m"]
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint={compute.rendezvous}", f"--nnodes={compute.nodes}"]
    return [*torchrun, *meeting, "-m"]


def _environment() -> dict[str, str]:
    quiet = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    # Threads that wait by spinning take the cores from whoever else is working.
    quiet["OMP_WAIT_POLICY"] = "PASSIVE"
    return {**os.environ, **quiet, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}


def _spoken(line: str) -> dict[str, list[object] | str]:
    if not line.startswith("{"):
        return {}
    try:
        said = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}
