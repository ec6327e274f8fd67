"The release, its Bento, and the proof over HTTP that it answers what was forecast."

import re
import shutil
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from releases import ROOT, make_products, product_paths

from brewcast.common.core import read_json, write_parquet
from brewcast.common.hashing import sha256
from brewcast.delivery.package import (
    LINUX_MARKERS,
    NOT_SERVED,
    _requirements_of,
    bento_hashes,
    folder_hashes,
    package,
    serve_requirements,
    write_release,
)

SERVING = "api_keys api_models app bento connections metrics online_store prediction_log release traffic".split()


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    "A real release and its real Bento, asked over HTTP: some ten seconds, once for this file."
    folder = tmp_path_factory.mktemp("products")
    made, gives = make_products(folder), product_paths(folder)
    gives.package.parent.mkdir()
    summary = package(ROOT, made.forecast, made.verdict, made.online, gives)
    return SimpleNamespace(folder=folder, made=made, gives=gives, summary=summary)


def test_package_says_what_it_made_and_leaves_nothing_else(packaged):
    # given a package made from 30 stores' forecasts
    gives, summary = packaged.gives, packaged.summary
    # then every store was asked over HTTP, what is bad was refused, and no working folder is left
    assert summary["smoke"]["stores_equal"] == 30
    assert set(summary["smoke"]["refused"].values()) == {400, 404}
    assert sorted(path.name for path in gives.package.parent.iterdir()) == [
        "bento",
        "challenger",
        "package.json",
        "release",
    ]
    assert read_json(gives.package) == summary
    assert summary["files"] == folder_hashes(gives.release)
    assert summary["bento"] == {"tag": f"brewcast:{summary['release']}", "files": bento_hashes(gives.bento)}
    assert summary["made_from"]["forecast.parquet"] == sha256(packaged.made.forecast)
    assert str(ROOT) not in gives.package.read_text() + (gives.release / "release.json").read_text()


def test_the_bento_holds_the_release_and_only_what_it_imports(packaged):
    # given the Bento; then its release is the release, and neither features nor training code is in it
    files = packaged.summary["bento"]["files"]
    release = {name.removeprefix("src/release/"): h for name, h in files.items() if name.startswith("src/release/")}
    assert release == {name: h for name, h in packaged.summary["files"].items() if name not in NOT_SERVED}
    code = {name.removeprefix("src/brewcast/") for name in files if name.startswith("src/brewcast/")}
    packages = {f"{n}__init__.py" for n in ("", "common/", "serving/")}
    assert code == packages | {"common/ledger.py", "common/paths.py", "common/text.py"} | {
        f"serving/{n}.py" for n in SERVING
    }


def test_whoever_runs_the_bento_may_read_it(packaged, tmp_path):
    # given the modes that this shell gives a folder and a file
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    folder, file = ((tmp_path / name).stat().st_mode & 0o777 for name in ("folder", "file"))
    # then what was made has them, too, and BentoML's entry point may be run besides
    for made in (packaged.gives.bento, packaged.gives.release):
        for path in [made, *made.rglob("*")]:
            mode = path.stat().st_mode & 0o777
            assert mode == folder if path.is_dir() else mode & ~0o111 == file, f"{mode:o} {path}"


def test_two_packages_of_one_forecast_are_the_same_release(packaged, tmp_path):
    # given the same products again
    requirements = (packaged.gives.release / "requirements.txt").read_text()
    (tmp_path / "release").mkdir()
    # when the release is written a second time
    again = write_release(
        tmp_path / "release", packaged.made.table, packaged.made.online, packaged.made.forecast.parent, requirements
    )
    # then it has the same name and the same bytes
    assert again["release"] == packaged.summary["release"]
    assert folder_hashes(tmp_path / "release") == packaged.summary["files"]


def test_a_forecast_that_the_release_does_not_give_is_refused_and_the_old_package_is_gone_or_whole(packaged, tmp_path):
    # given a finished package, and then a forecast that somebody changed in one store
    for name in ("package", "forecast", "evaluate"):
        shutil.copytree(packaged.folder / name, tmp_path / name)
    table = packaged.made.table.assign(upper=packaged.made.table.upper * ([1.0] * 29 + [1.01]))
    forecast = write_parquet(table, tmp_path / "forecast" / "forecast.parquet")
    before = folder_hashes(tmp_path / "package")
    # when it is packaged, its golden rows refuse
    with pytest.raises(ValueError, match="STORE130 does not get its golden answer"):
        package(ROOT, forecast, packaged.made.verdict, packaged.made.online, product_paths(tmp_path))
    # then the old product is there, byte for byte
    after = {
        name: digest for name, digest in folder_hashes(tmp_path / "package").items() if not name.startswith("building")
    }
    assert after == before


def test_online_rows_of_other_stores_are_refused(packaged, tmp_path):
    with pytest.raises(ValueError, match="the online rows are not those of forecast.parquet"):
        write_release(tmp_path, packaged.made.table, packaged.made.online[1:], packaged.made.forecast.parent, "")


def test_an_online_store_without_a_feature_is_refused(packaged, tmp_path):
    online = packaged.made.online.drop(columns="log_size")
    with pytest.raises(ValueError, match="log_size"):
        write_release(tmp_path, packaged.made.table, online, packaged.made.forecast.parent, "")


def test_requirements_are_the_lock_s_with_hashes_and_nothing_of_training():
    # given the project's settings and lock
    text = serve_requirements(ROOT)
    entries = [line for line in text.splitlines() if "==" in line]
    # then each is pinned, each has hashes of its own, and what only training needs is not there
    assert all(line.endswith("\\") for line in entries)
    blocks = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(blocks) == len(entries) and all("--hash=sha256:" in block for block in blocks)
    assert {"bentoml", "onnxruntime", "uvloop"} <= {line.split("==")[0] for line in entries}
    unneeded = {"feast", "mlflow", "ploomber", "evidently", "jupyterlab", "pandas", "scikit-learn", "pyarrow", "joblib"}
    assert not unneeded & {line.split("==")[0] for line in entries}


@pytest.mark.parametrize("python", ["3.11.0", "3.11.2", "3.11.3", "3.12.0", "3.13.5"])
def test_requirements_hold_for_every_supported_python_whoever_built_them(python):
    # given the requirements as another Python reads them
    there = LINUX_MARKERS | {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    entries = [Requirement(line.rstrip(" \\")) for line in serve_requirements(ROOT).splitlines() if "==" in line]
    held = [entry for entry in entries if entry.marker is None or entry.marker.evaluate(there)]
    names = {canonicalize_name(entry.name): entry for entry in held}
    assert len(names) == len(held), "one version of each"
    # then all that each of them needs there is among them, at a version that it takes, and no Windows package is
    waiting = [*((name, "") for name in names), ("psycopg", "binary")]
    needed = [
        need
        for name, extra in waiting
        for need in map(Requirement, _requirements_of(name))
        if need.marker is None or need.marker.evaluate(there | {"extra": extra})
    ]
    lacking = [
        str(need)
        for need in needed
        if canonicalize_name(need.name) not in names
        or not need.specifier.contains(str(names[canonicalize_name(need.name)].specifier).removeprefix("=="))
    ]
    assert lacking == []
    assert ("async-timeout" in names) == (python in ("3.11.0", "3.11.2"))
    assert "pywin32" not in names
