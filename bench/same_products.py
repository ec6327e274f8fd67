"""Do two commits make the same products? Clean builds of both, compared by value, type, order and byte.

    .venv/bin/python bench/same_products.py HEAD~1 HEAD [--source walmart] [--rename bench/renames.yaml] [--keep ../builds]

A commit is anything that `git rev-parse` accepts, or `.` for the current work tree. Each commit is cloned into its own folder
and built there by its own `make run`, from an empty state. A build takes minutes: --keep leaves the builds in a folder and
reuses those of the same commit. The map of renames is applied to the first commit's products before the comparison.
bench/compare_products.py compares the products and lists those that it skips. Exit status: 0 if nothing differs, 1 if
something differs, 2 if the comparison failed.
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
from compare_products import (
    NOT_COMPARED,
    Build,
    Difference,
    clean_environment,
    compare,
    read_renames,
    sha256,
    skip_reason,
)
from measure import children_cpu

from brewcast.common.text import format_count
from brewcast.workflow.runs import run_git, snapshot_code

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ["simulated", "walmart", "maven_market", "dominicks_oj"]
SOURCES_WITHOUT_DATA = {"simulated"}  # `make run` generates its data


# -- builds


def find_commit(
    name: str,  # anything that `git rev-parse` accepts; "." is the work tree
) -> str:
    "The hash of a commit. Raises ValueError if there is no such commit."
    commit = (
        snapshot_code(ROOT).commit
        if name == "."
        else run_git(ROOT, "rev-parse", "-q", "--verify", f"{name}^{{commit}}")
    )
    if not commit:
        raise ValueError(f"{name} is not a commit of {ROOT}: fetch it first, or give another one")
    return commit


def clone_commit(
    commit: str,  # full hash
    folder: Path,  # the parent folder of the clone
) -> Path:  # the root of the clone
    "Clone a commit. It shares this project's environment if both have the same requirements, and gets its own otherwise."
    root = folder / "brewcast"
    if not root.exists():
        partial = folder / "partial"  # renamed when complete, so that a killed run leaves no incomplete clone
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", "--no-checkout", ROOT, partial], check=True)
        subprocess.run(["git", "-C", partial, "checkout", "-q", "--detach", commit], check=True)
        partial.rename(root)
    if not (root / ".venv").exists():
        if read_requirements(root) == read_requirements(ROOT):
            (root / ".venv").symlink_to(ROOT / ".venv")
        else:  # its own environment, with the same Python
            subprocess.run([sys._base_executable, "-m", "venv", root / ".venv"], check=True)
            (root / ".venv/root").write_text(
                str(root)
            )  # else `make` assumes that the project was moved, and recreates .venv
    return root


def read_requirements(root: Path) -> tuple[dict[str, str], str]:  # by name in settings.ini; hash of the lock file
    "The requirements that an environment is installed from."
    settings = ConfigParser(delimiters=["="], interpolation=None)
    settings.read(root / "settings.ini", encoding="utf-8")
    requirements = {name: text for name, text in settings["DEFAULT"].items() if name.endswith("requirements")}
    return requirements, sha256(root / "requirements.lock")


def build_source(
    root: Path,  # a clone
    source: str,  # one of SOURCES
    data: Path,  # the folder with one subfolder of data for each source
) -> None:
    "Build a source from an empty state, unless an earlier run has built it."
    marker = root.parent / f"{source}.built"  # exists after a successful build
    if marker.exists():
        return
    log = root.parent / f"{source}.log"
    for folder in ("products", "state"):
        shutil.rmtree(root / folder / source, ignore_errors=True)
    options = []
    if (root / ".venv").is_symlink():
        options = ["-o", ".venv/ready"]  # the shared environment is complete: `make` must not install it again
    command = ["make", *options, "run", f"SOURCE={source}"]
    if source not in SOURCES_WITHOUT_DATA:
        command.append(f"DATA={data / source}")
    start_seconds, start_cpu_seconds = time.monotonic(), children_cpu()
    with open(log, "w") as file:
        status = subprocess.run(command, cwd=root, env=clean_environment(root), stdout=file, stderr=file).returncode
    if status:
        raise RuntimeError(f"{source} cannot be built in {root}:\n{log.read_text()[-3000:]}")
    marker.touch()
    duration = f"{time.monotonic() - start_seconds:.0f} s, {children_cpu() - start_cpu_seconds:.0f} CPU s"
    print(f"{source}: {root.parent.name} is built, in {duration}", flush=True)


# -- the report


def report(
    source: str,  # one of SOURCES
    differences: list[Difference],  # in the order of the pipeline
    n_compared: int,  # number of products whose content was compared
) -> str:  # a few lines
    "The first difference, the number of differences by stage, and the files that only one commit has."
    if not differences:
        return f"{source}: {format_count(n_compared, 'product is', 'products are')} the same"
    counts = Counter(difference.stage for difference in differences)
    by_stage = ", ".join(f"{stage} {count}" for stage, count in counts.items())
    first = differences[0]
    only_in_one = [f"  {d.file}: {d.detail}" for d in differences if d.detail.startswith("the file is only")]
    return "\n".join(
        [
            f"{source}: NOT the same. The first difference is in {first.stage}, {first.file}: {first.detail}",
            f"  {format_count(len(differences), 'product differs', 'products differ')}: {by_stage}",
            *only_in_one,
        ]
    )


def parse_arguments() -> argparse.Namespace:  # commits, source, data, rename, keep
    "Read the command line."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commits", nargs=2, metavar="COMMIT")
    parser.add_argument("--source", action="append", choices=SOURCES, help="may be repeated; default: all sources")
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared/data", help="folder with a subfolder per source"
    )
    parser.add_argument(
        "--rename", type=Path, metavar="MAP", help="YAML file: names and texts that the second commit changed"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="folder in which builds are kept and reused")
    return parser.parse_args()


def check_data(
    sources: list[str],  # the sources to build
    data: Path,  # the folder with one subfolder of data for each source
) -> None:
    "Raise ValueError if the data of a source is missing."
    missing = [source for source in sources if source not in SOURCES_WITHOUT_DATA and not (data / source).is_dir()]
    if missing:
        others = " ".join(f"--source {source}" for source in SOURCES if source not in missing)
        raise ValueError(
            f"the data of {', '.join(missing)} is not in {data}: give the folder that contains it with --data, "
            f"or compare the other sources only with {others}"
        )


def compare_commits(
    args: argparse.Namespace,  # the command line: commits, source, data, rename
    folder: Path,  # the parent folder of the builds
) -> bool:  # Does any product differ?
    "Build both commits and compare them, source by source; print a report of each."
    sources = args.source or SOURCES
    renames = read_renames(args.rename)
    check_data(sources, args.data)
    commits = [find_commit(name) for name in args.commits]
    python = platform.python_version()  # a release's requirements depend on it
    names = [f"{commit[:12]}-{python}" for commit in commits]
    if commits[0] == commits[1]:
        names[1] += "-again"  # the same commit twice: two builds, not one build compared with itself
    roots = [clone_commit(commit, folder / name) for commit, name in zip(commits, names, strict=True)]
    has_difference = False
    for source in sources:
        for root in roots:
            build_source(root, source, args.data.resolve())
        before = Build(roots[0], source, renames)
        after = Build(roots[1], source)
        differences = compare(before, after)
        n_compared = sum(skip_reason(file) is None for file in before.files)
        print(report(source, differences, n_compared), flush=True)
        has_difference |= bool(differences)
    for entry in renames.unused():
        print(f"note: this entry of the map matched nothing: {entry}")
    print("not compared:", *(f"  {pattern}: {reason}" for pattern, reason in NOT_COMPARED.items()), sep="\n")
    print("  state/: written by publish; files in products/ whose names start with a dot: internal files of the tools")
    return has_difference


def main() -> None:
    args = parse_arguments()
    try:
        with tempfile.TemporaryDirectory(prefix="same-products-") as tmp:
            has_difference = compare_commits(args, (args.keep or Path(tmp)).resolve())
    except (OSError, ValueError, RuntimeError, yaml.YAMLError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(2) from None
    except Exception:  # an uncaught one would exit with 1, which means a difference
        traceback.print_exc()
        raise SystemExit(2) from None
    raise SystemExit(int(has_difference))


if __name__ == "__main__":
    main()
