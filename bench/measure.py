"Wall and CPU seconds of commands, of everything that they start; contestants in turns; a table."

import contextlib
import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil


def children_cpu() -> float:
    "CPU seconds of all that was started and has ended."
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine_cpu() -> float:
    "CPU seconds that all processes of the machine used."
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


def adopt_orphans() -> None:
    "A daemon that a command leaves becomes our child (Linux), so that its time is counted too."
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def end_adopted(patience: float = 3.0) -> None:
    "Wait for what a command left behind, and end what does not end."
    until = time.monotonic() + patience
    while children := psutil.Process().children(recursive=True):
        for child in children:
            with contextlib.suppress(psutil.Error):
                if time.monotonic() > until:
                    print(f"left running, ended: {' '.join(child.cmdline())[:100]}", file=sys.stderr)
                    child.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def measured(command: list, cwd: Path, environment: dict) -> dict[str, float]:
    "Run a command; wall, CPU and others' seconds. RuntimeError, with its last lines, where it fails."
    cpu, machine, begun = children_cpu(), machine_cpu(), time.monotonic()
    with tempfile.TemporaryFile() as said:  # a pipe would be waited for as long as a daemon holds it
        words = [str(part) for part in command]
        done = subprocess.run(words, cwd=cwd, env=environment, stdout=said, stderr=subprocess.STDOUT)
        wall = time.monotonic() - begun
        said.seek(0)
        last = said.read().decode(errors="replace").strip().splitlines()[-6:]
    end_adopted()
    cpu = children_cpu() - cpu
    if done.returncode:
        raise RuntimeError(" / ".join(last)[-600:])
    return {"wall": wall, "cpu": cpu, "others": max(0.0, machine_cpu() - machine - cpu)}


def in_turns(contestants: dict, repeat: int) -> dict[str, list | str]:
    "Every contestant's runs by name, one after the other in each round; of one that fails, why."
    found = {name: [] for name in contestants}
    for i in range(repeat):
        for name, contest in contestants.items():
            if isinstance(found[name], list):
                try:
                    found[name].append(contest())
                    print(
                        f"  {name}, round {i + 1}: {found[name][-1]['wall']:.2f} s, CPU {found[name][-1]['cpu']:.2f} s",
                        file=sys.stderr,
                        flush=True,
                    )
                except (RuntimeError, OSError, LookupError) as error:
                    found[name] = f"failed: {error}"
                    print(f"  {name} {found[name]}", file=sys.stderr, flush=True)
    return found


def table(title: str, runs: dict[str, list | str], base: str) -> str:
    "Markdown: medians with their range, and ratios to one contestant; a star where others took a tenth of the machine."
    middle = lambda name, key: statistics.median(run[key] for run in runs[name])  # noqa: E731
    spread = lambda name, key: (  # noqa: E731
        f"{middle(name, key):.2f} ({min(r[key] for r in runs[name]):.2f}-{max(r[key] for r in runs[name]):.2f})"
    )
    lines = [
        f"\n### {title}\n",
        f"| | wall s | CPU s | others | wall / {base} | CPU / {base} |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, own in runs.items():
        if isinstance(own, str) or not own:
            lines.append(f"| {name} | {own or 'not run'} | | | | |")
            continue
        ratios = ["", ""]
        if isinstance(runs[base], list) and runs[base]:
            ratios = [f"{middle(name, key) / middle(base, key):.2f}" for key in ("wall", "cpu")]
        disturbed = middle(name, "others") > 0.1 * os.cpu_count() * middle(name, "wall")
        cells = [
            spread(name, "wall") + " \\*" * disturbed,
            spread(name, "cpu"),
            f"{middle(name, 'others'):.1f}",
            *ratios,
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
