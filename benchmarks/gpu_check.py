"""The checks and measurements of the Kronos library on a GPU; nothing of this project needs to be installed.

    python benchmarks/gpu_check.py [--quick] [--cpu-dry-run] [--parts parity graph] [--json FILE]

It needs a checkout, Python 3.11 or newer and torch, numpy, pandas, safetensors, huggingface_hub, einops, transformers;
weights are random, of the published shapes. Each part runs in its own process with its own limit of time, so that a
failure (an illegal address ends a CUDA context) leaves the others alone; the rows measured until then are kept. All
parts together take at most eight minutes. The exit status is 1 if a part failed, was cut off or was not run, or if a
result is wrong; a speed below its goal is reported only. This module imports the standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = {"parity": 70, "graph": 50, "path_steps": 140, "training": 100, "memory": 45, "out_of_memory": 45}
"""Seconds of each part, in the order in which they run; the process's start is included."""
TOTAL = 470
"""Seconds of all parts. What is left when a part starts limits it, too."""
NO_DEVICE = "not run: no CUDA device"


@dataclass
class PartResult:
    """What one part has shown: `status` is "done", "failed", "cut off after n s" or NO_DEVICE."""

    part: str
    status: str
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "done" and all(row["passed"] is not False for row in self.rows)


def run_part(part: str, options: Sequence[str], limit: float) -> PartResult:
    """Run one part in its own process, for at most `limit` seconds."""
    start = time.monotonic()
    with TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        rows.touch()
        command = [sys.executable, "-m", "benchmarks.gpu_parts", part, str(rows), *options]
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=max(limit, 1), check=False
            )
            status, error = ("failed", done.stderr.strip()) if done.returncode else ("done", "")
        except subprocess.TimeoutExpired as late:
            status, error = f"cut off after {limit:.0f} s", (late.stderr or b"").decode(errors="replace").strip()
        measured = [json.loads(line) for line in rows.read_text().splitlines()]
    return PartResult(part, status, time.monotonic() - start, measured, error)


def table(results: Sequence[PartResult]) -> str:
    """All rows in Markdown, one per measurement, and the status of each part that has none."""
    lines = ["| part | measurement | value | reference | ratio | goal | result |", "|---|---|---|---|---|---|---|"]
    for result in results:
        for row in result.rows:
            reference = row["reference"]
            ratio = f"{row['value'] / reference:.2f}×" if reference and row["unit"].endswith("/s") else "–"
            met = {True: "ok", False: "WRONG", None: "–"}[row["passed"]]
            if row["passed"] is None and row["goal"] is not None:
                met = "met" if row["value"] >= row["goal"] else "below the goal"
            cells = (
                result.part,
                row["what"],
                f"{_number(row['value'])} {row['unit']}",
                f"{_number(reference)} ({row['reference_name']})" if reference is not None else row["reference_name"],
                ratio,
                "–" if row["goal"] is None else f"≥ {_number(row['goal'])}",
                met,
            )
            lines.append(f"| {' | '.join(cells)} |")
        if result.status != "done" or not result.rows:
            lines.append(f"| {result.part} | {result.status} | | | | | |")
    return "\n".join(lines)


def report(results: Sequence[PartResult], environment: PartResult) -> dict[str, Any]:
    """The content of the JSON file."""
    return {
        "environment": environment.rows[0]["detail"] if environment.rows else {"error": environment.error},
        "seconds": round(sum(result.seconds for result in results), 1),
        "parts": [{**vars(result), "seconds": round(result.seconds, 1), "passed": result.passed} for result in results],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every part at tiny sizes")
    parser.add_argument("--cpu-dry-run", action="store_true", help="every part on the CPU, where there is no GPU")
    parser.add_argument("--parts", nargs="+", choices=list(BUDGETS), default=list(BUDGETS))
    parser.add_argument("--seed", type=int, default=0, help="of weights, bars and draws")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "gpu_check.json")
    given = parser.parse_args(arguments)
    options = [f"--seed={given.seed}", *(["--quick"] if given.quick else [])]
    options += ["--device=cpu" if given.cpu_dry_run else "--device=cuda"]
    started = time.monotonic()
    environment = run_part("environment", options, TOTAL)
    detail = environment.rows[0]["detail"] if environment.rows else {}
    print(json.dumps(detail, indent=1) if detail else f"torch cannot be used:\n{environment.error}", flush=True)
    results = []
    for part in given.parts:
        if not detail or (not detail["cuda"] and not given.cpu_dry_run):
            results.append(PartResult(part, NO_DEVICE if detail else "failed", error=environment.error))
            print(f"{part}: {results[-1].status}", flush=True)
            continue
        left = TOTAL - (time.monotonic() - started)
        results.append(run_part(part, options, min(BUDGETS[part], left)))
        print(f"{part}: {results[-1].status}, {results[-1].seconds:.0f} s", flush=True)
        if results[-1].error:
            print(results[-1].error, flush=True)
    print(f"\n{table(results)}\n")
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(report(results, environment), indent=1) + "\n")
    print(f"written: {given.json}")
    return 0 if all(result.passed for result in results) else 1


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
