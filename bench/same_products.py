"""Do two commits make the same products? Clean builds of both, compared by value, type, order and byte.

    .venv/bin/python bench/same_products.py HEAD~1 HEAD [--source walmart] [--rename bench/renames.yaml] [--keep ../builds]

A commit is what `git rev-parse` takes, or `.`, the work tree as it is. Each is cloned into a folder of its own and built
there by its own `make run`, from an empty state. A build takes minutes: --keep leaves them, and takes those of the same
commit that it finds there. A map of renames is applied to the first commit's products before they are compared.
How a product is compared, and what is not, stands in bench/compare_products.py. Exit status: 0 where nothing differs, 1 where
something does, 2 where that could not be found out.
"""

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from configparser import ConfigParser
from pathlib import Path

import yaml
from compare_products import NOT_COMPARED, Build, Difference, compare, fresh_shell, not_compared, read_renames, sha256
from measure import children_cpu

from brewcast.common.text import format_count
from brewcast.workflow.runs import run_git, snapshot_code

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ["simulated", "walmart", "maven_market", "dominicks_oj"]
OWN_DATA = {"simulated"}  # `make run` writes it


# -- builds


def find_commit(
    name: str,  # what `git rev-parse` takes; "." is the work tree
) -> str:
    "A commit's hash. Raises ValueError where there is none."
    commit = (
        snapshot_code(ROOT)["commit"]
        if name == "."
        else run_git(ROOT, "rev-parse", "-q", "--verify", f"{name}^{{commit}}")
    )
    if not commit:
        raise ValueError(f"{name} is no commit of {ROOT}: fetch it first, or name another")
    return commit


def lay_out(
    commit: str,  # its hash
    folder: Path,  # where it goes
) -> Path:  # the clone
    "A clone of a commit, on this environment where it asks for no other."
    root = folder / "brewcast"
    if not root.exists():
        begun = folder / "begun"  # what was killed here is no clone
        shutil.rmtree(begun, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", "--no-checkout", ROOT, begun], check=True)
        subprocess.run(["git", "-C", begun, "checkout", "-q", "--detach", commit], check=True)
        begun.rename(root)
    if not (root / ".venv").exists():
        if dependencies(root) == dependencies(ROOT):
            (root / ".venv").symlink_to(ROOT / ".venv")
        else:  # of its own, but by the same Python
            subprocess.run([sys._base_executable, "-m", "venv", root / ".venv"], check=True)
            (root / ".venv/root").write_text(str(root))  # or `make` takes it for one that was moved, and makes it anew
    return root


def dependencies(root: Path) -> tuple:
    "What an environment is made from."
    settings = ConfigParser(delimiters=["="], interpolation=None)
    settings.read(root / "settings.ini", encoding="utf-8")
    asked = {name: text for name, text in settings["DEFAULT"].items() if name.endswith("requirements")}
    return asked, sha256(root / "requirements.lock")


def make(
    root: Path,  # a clone
    source: str,  # a source's name
    data: Path,  # where the sources' data lies
) -> None:
    "Build a source from nothing, unless that was done."
    done, log = root.parent / f"{source}.built", root.parent / f"{source}.log"
    if done.exists():
        return
    for folder in ("products", "state"):
        shutil.rmtree(root / folder / source, ignore_errors=True)
    shared = ["-o", ".venv/ready"] if (root / ".venv").is_symlink() else []  # it is set up where the link leads
    command = ["make", *shared, "run", f"SOURCE={source}", *([] if source in OWN_DATA else [f"DATA={data / source}"])]
    begun, spent = time.monotonic(), children_cpu()
    with open(log, "w") as said:
        status = subprocess.run(command, cwd=root, env=fresh_shell(root), stdout=said, stderr=said).returncode
    if status:
        raise RuntimeError(f"{source} cannot be built in {root}:\n{log.read_text()[-3000:]}")
    done.touch()
    took = f"{time.monotonic() - begun:.0f} s, {children_cpu() - spent:.0f} CPU s"
    print(f"{source}: {root.parent.name} is built, in {took}", flush=True)


# -- what is said


def report(
    source: str,  # a source's name
    found: list[Difference],  # see `compare`
    compared: int,  # how many products were
) -> str:  # a few lines
    "The first difference, and how many there are."
    if not found:
        return f"{source}: {format_count(compared, 'product is', 'products are')} the same"
    counts = Counter(difference.stage for difference in found)
    by_stage = ", ".join(f"{stage} {count}" for stage, count in counts.items())
    first, one_sided = found[0], [f"  {d.file}: {d.detail}" for d in found if d.detail.startswith("the file is only")]
    return "\n".join(
        [
            f"{source}: NOT the same. It begins in {first.stage}, with {first.file}: {first.detail}",
            f"  {format_count(len(found), 'product differs', 'products differ')}: {by_stage}",
            *one_sided,
        ]
    )


def asked_for() -> argparse.Namespace:
    "The command line."
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("commits", nargs=2, metavar="COMMIT")
    asked.add_argument("--source", action="append", choices=SOURCES, help="may be given again; default: all")
    asked.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="holds a folder for each source")
    asked.add_argument("--rename", type=Path, metavar="MAP", help="YAML: what the second commit calls otherwise")
    asked.add_argument("--keep", type=Path, metavar="FOLDER", help="where builds are left, and found again")
    return asked.parse_args()


def check_data(
    sources: list[str],  # to be built
    data: Path,  # where their data should lie
) -> None:
    "Raise ValueError where a source's data is missing."
    missing = [source for source in sources if source not in OWN_DATA and not (data / source).is_dir()]
    if missing:
        others = " ".join(f"--source {source}" for source in SOURCES if source not in missing)
        raise ValueError(
            f"the data of {', '.join(missing)} is not in {data}: name the folder that holds theirs with --data, "
            f"or leave them out with {others}"
        )


def compare_commits(
    asked: argparse.Namespace,  # see `read_checked_products`
    folder: Path,  # where the builds go
) -> bool:  # Does anything differ?
    "Build and compare source by source, and say what came out."
    sources, renames = asked.source or SOURCES, read_renames(asked.rename)
    check_data(sources, asked.data)
    commits = [find_commit(name) for name in asked.commits]
    again = "-again" if commits[0] == commits[1] else ""  # a commit may be built twice, and is not compared with itself
    python = platform.python_version()  # by which a release's requirements differ
    names = [f"{commit[:12]}-{python}{end}" for commit, end in zip(commits, ("", again), strict=True)]
    roots = [lay_out(commit, folder / name) for commit, name in zip(commits, names, strict=True)]
    differs = False
    for source in sources:
        for root in roots:
            make(root, source, asked.data.resolve())
        before, after = Build(roots[0], source, renames), Build(roots[1], source)
        found = compare(before, after)
        compared = sum(not_compared(file) is None for file in before.files)
        print(report(source, found, compared), flush=True)
        differs |= bool(found)
    for entry in renames.unused():
        print(f"note: nothing was renamed by {entry}")
    print("not compared:", *(f"  {pattern}: {why}" for pattern, why in NOT_COMPARED.items()), sep="\n")
    print("  state/: what publish wrote; products/: files whose names begin with a dot, the tools' own notes")
    return differs


def main() -> None:
    asked = asked_for()
    try:
        with tempfile.TemporaryDirectory(prefix="same-products-") as tmp:
            differs = compare_commits(asked, (asked.keep or Path(tmp)).resolve())
    except (OSError, ValueError, RuntimeError, yaml.YAMLError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(2) from None
    except Exception:  # which would end in 1, and read as a difference
        traceback.print_exc()
        raise SystemExit(2) from None
    raise SystemExit(int(differs))


if __name__ == "__main__":
    main()
