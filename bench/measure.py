"Wall and CPU seconds of commands, with all processes that they start; several commands in turns; a table."

import contextlib
import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil


def children_cpu() -> float:
    "CPU seconds of child processes that have ended."
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine_cpu() -> float:
    "CPU seconds that all processes of the machine used."
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


def adopt_orphans() -> None:
    "Make daemons that a command leaves our children (Linux), so that their time is counted too."
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def end_adopted(timeout: float = 3.0) -> None:
    "Wait for processes that a command left behind, and end those that are still running after the timeout."
    deadline = time.monotonic() + timeout
    while children := psutil.Process().children(recursive=True):
        for child in children:
            with contextlib.suppress(psutil.Error):
                if time.monotonic() > deadline:
                    print(f"ended a process that was left running: {' '.join(child.cmdline())[:100]}", file=sys.stderr)
                    child.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def measured_call(work: Callable[[], None]) -> dict[str, float]:
    "Do something by child processes; seconds: wall, cpu, others (CPU of other processes)."
    cpu_before, machine_before, start = children_cpu(), machine_cpu(), time.monotonic()
    try:
        work()
    finally:
        wall = time.monotonic() - start
        end_adopted()
    cpu = children_cpu() - cpu_before
    return {"wall": wall, "cpu": cpu, "others": max(0.0, machine_cpu() - machine_before - cpu)}


def measured(command: list, cwd: Path, environment: dict) -> dict[str, float]:
    "Run a command, measured. RuntimeError with its last lines if it fails."

    def work() -> None:
        words = [str(part) for part in command]
        with tempfile.TemporaryFile() as output:  # a pipe stays open as long as a daemon holds it
            process = subprocess.run(words, cwd=cwd, env=environment, stdout=output, stderr=subprocess.STDOUT)
            output.seek(0)
            last_lines = output.read().decode(errors="replace").strip().splitlines()[-6:]
        if process.returncode:
            raise RuntimeError(" / ".join(last_lines)[-600:])

    return measured_call(work)


def in_turns(contestants: dict, repeat: int) -> dict[str, list | str]:
    "The runs of every contestant by name. Contestants take turns in each round. One that fails has the reason instead."
    runs = {name: [] for name in contestants}
    for i in range(repeat):
        for name, contest in contestants.items():
            if isinstance(runs[name], list):
                try:
                    run = contest()
                    runs[name].append(run)
                    message = f"{name}, round {i + 1}: {run['wall']:.2f} s, CPU {run['cpu']:.2f} s"
                except (RuntimeError, OSError, LookupError) as error:
                    runs[name] = f"failed: {error}"
                    message = f"{name} {runs[name]}"
                print(f"  {message}", file=sys.stderr, flush=True)
    return runs


def table(title: str, runs: dict[str, list | str], base: str) -> str:
    "Markdown: medians with their range, and ratios to one contestant. A star: others took a tenth of the machine."

    def median(name: str, key: str) -> float:
        return statistics.median(run[key] for run in runs[name])

    def with_range(name: str, key: str) -> str:
        values = [run[key] for run in runs[name]]
        return f"{median(name, key):.2f} ({min(values):.2f}-{max(values):.2f})"

    lines = [
        f"\n### {title}\n",
        f"| | wall s | CPU s | others | wall / {base} | CPU / {base} |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, own_runs in runs.items():
        if isinstance(own_runs, str) or not own_runs:
            lines.append(f"| {name} | {own_runs or 'not run'} | | | | |")
            continue
        ratios = ["", ""]
        if isinstance(runs[base], list) and runs[base]:
            ratios = [f"{median(name, key) / median(base, key):.2f}" for key in ("wall", "cpu")]
        is_disturbed = median(name, "others") > 0.1 * os.cpu_count() * median(name, "wall")
        cells = [
            with_range(name, "wall") + " \\*" * is_disturbed,
            with_range(name, "cpu"),
            f"{median(name, 'others'):.1f}",
            *ratios,
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
