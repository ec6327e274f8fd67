"The release and its Bento: what is in them, and the test over HTTP that the answers equal the forecast."

import re
import shutil
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from releases import ROOT, make_products, product_paths

from brewcast.common.core import read_json, write_parquet
from brewcast.common.hashing import sha256
from brewcast.common.records import BentoSummary, FeastSource
from brewcast.delivery import package as module
from brewcast.delivery.package import (
    LINUX_MARKERS,
    NOT_SERVED,
    RELEASE_FILES,
    _requirements_of,
    bento_hashes,
    folder_hashes,
    package,
    package_sentence,
    release_file_table,
    serve_requirements,
    write_release,
)

SERVING = (
    "api_keys api_models app bento connections container instances metrics online_store platforms prediction_log release"
    " traffic"
).split()


def test_the_stage_reads_the_rows_of_the_forecast_s_series_and_where_they_are_live(tmp_path, monkeypatch):
    # given products of earlier stages, and a Feast that says what it is asked for
    inputs = make_products(tmp_path, 5)
    rows = write_parquet(inputs.online, tmp_path / "train" / "rows.parquet")
    upstream_paths = SimpleNamespace(
        forecast=SimpleNamespace(forecast=inputs.forecast),
        evaluate=SimpleNamespace(verdict=inputs.verdict),
        features=SimpleNamespace(online=tmp_path / "features" / "online.db"),
        train=SimpleNamespace(rows=rows),
    )
    views = {"project": "shop", "views": {"next_month": ["log_size"]}}
    monkeypatch.setattr(module, "online_rows", lambda *question: question)
    monkeypatch.setattr(module, "feature_views", lambda folder, source, names: views | {"project": source})
    # when they are read
    read = module.read_package_inputs(upstream_paths, "shop")
    # then the series are those of the forecast, in its order
    assert read.online == (tmp_path / "features", "shop", inputs.table.series_id.tolist())
    assert (read.forecast, read.verdict) == (inputs.forecast, inputs.verdict)
    assert read.feast == FeastSource(**views) and len(read.evaluation_rows) == 5


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    "A real release and its real Bento, tested over HTTP: about ten seconds, once for this file."
    folder = tmp_path_factory.mktemp("products")
    inputs, outputs = make_products(folder), product_paths(folder)
    outputs.package.parent.mkdir()
    summary = package(ROOT, inputs.forecast, inputs.verdict, inputs.online, outputs)
    return SimpleNamespace(folder=folder, inputs=inputs, outputs=outputs, summary=summary)


def test_package_json_describes_the_products_and_nothing_else_is_left(packaged):
    # given a package made from the forecasts of 30 stores
    outputs, summary = packaged.outputs, packaged.summary
    # then every store's forecast was requested over HTTP, bad requests were refused, and no working folder is left
    assert summary.smoke.stores_equal == 30
    assert set(summary.smoke.refused.values()) == {400, 404}
    assert sorted(path.name for path in outputs.package.parent.iterdir()) == [
        "bento",
        "challenger",
        "package.json",
        "release",
    ]
    assert read_json(outputs.package) == summary.content()
    assert summary.files == folder_hashes(outputs.release)
    assert summary.bento == BentoSummary(tag=f"brewcast:{summary.release}", files=bento_hashes(outputs.bento))
    assert summary.made_from["forecast.parquet"] == sha256(packaged.inputs.forecast)
    assert str(ROOT) not in outputs.package.read_text() + (outputs.release / "release.json").read_text()


def test_the_bento_contains_the_release_and_only_the_code_that_it_imports(packaged):
    # given the Bento, then it contains the release, and no code of features or training
    files = packaged.summary.bento.files
    release = {
        name.removeprefix("src/release/"): digest for name, digest in files.items() if name.startswith("src/release/")
    }
    assert release == {name: digest for name, digest in packaged.summary.files.items() if name not in NOT_SERVED}
    code = {name.removeprefix("src/brewcast/") for name in files if name.startswith("src/brewcast/")}
    packages = {f"{name}__init__.py" for name in ("", "common/", "serving/")}
    common = {f"common/{name}.py" for name in ("hashing", "ledger", "paths", "progress", "records", "text")}
    assert code == packages | common | {f"serving/{name}.py" for name in SERVING}


def test_every_user_can_read_the_bento(packaged, tmp_path):
    # given the modes of a new folder and a new file under the current umask
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    folder, file = ((tmp_path / name).stat().st_mode & 0o777 for name in ("folder", "file"))
    # then Bento and release have the same modes; BentoML's entry point may be executable, too
    for product in (packaged.outputs.bento, packaged.outputs.release):
        for path in [product, *product.rglob("*")]:
            mode = path.stat().st_mode & 0o777
            assert mode == folder if path.is_dir() else mode & ~0o111 == file, f"{mode:o} {path}"


def test_two_packages_of_one_forecast_are_the_same_release(packaged, tmp_path):
    # given the same products again
    requirements = (packaged.outputs.release / "requirements.txt").read_text()
    (tmp_path / "release").mkdir()
    # when the release is written a second time
    again = write_release(
        tmp_path / "release",
        packaged.inputs.table,
        packaged.inputs.online,
        packaged.inputs.forecast.parent,
        requirements,
    )
    # then it has the same name and the same bytes
    assert again.release == packaged.summary.release
    assert folder_hashes(tmp_path / "release") == packaged.summary.files


def test_a_forecast_that_the_model_does_not_give_is_refused_and_the_old_package_stays(packaged, tmp_path):
    # given a finished package, and then a forecast with one changed store
    for name in ("package", "forecast", "evaluate"):
        shutil.copytree(packaged.folder / name, tmp_path / name)
    table = packaged.inputs.table.assign(upper=packaged.inputs.table.upper * ([1.0] * 29 + [1.01]))
    forecast = write_parquet(table, tmp_path / "forecast" / "forecast.parquet")
    before = folder_hashes(tmp_path / "package")
    # when it is packaged, then the check of the golden rows fails
    with pytest.raises(ValueError, match="STORE130 does not get its golden answer"):
        package(ROOT, forecast, packaged.inputs.verdict, packaged.inputs.online, product_paths(tmp_path))
    # and the old products are unchanged, byte for byte
    after = {
        name: digest for name, digest in folder_hashes(tmp_path / "package").items() if not name.startswith("building")
    }
    assert after == before


def test_requirements_come_from_the_lock_with_hashes_and_without_training_packages():
    # given the project's settings and lock
    text = serve_requirements(ROOT)
    entries = [line for line in text.splitlines() if "==" in line]
    # then each package is pinned and has hashes, and packages that only training needs are absent
    assert all(line.endswith("\\") for line in entries)
    blocks = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(blocks) == len(entries) and all("--hash=sha256:" in block for block in blocks)
    assert {"bentoml", "onnxruntime", "uvloop"} <= {line.split("==")[0] for line in entries}
    unneeded = {"feast", "mlflow", "ploomber", "evidently", "jupyterlab", "pandas", "scikit-learn", "pyarrow", "joblib"}
    assert not unneeded & {line.split("==")[0] for line in entries}


@pytest.mark.parametrize("python", ["3.11.0", "3.11.2", "3.11.3", "3.12.0", "3.13.5"])
def test_requirements_are_complete_for_every_supported_python(python):
    # given the requirements as another Python reads them
    environment = LINUX_MARKERS | {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    entries = [Requirement(line.rstrip(" \\")) for line in serve_requirements(ROOT).splitlines() if "==" in line]
    applicable = [entry for entry in entries if entry.marker is None or entry.marker.evaluate(environment)]
    names = {canonicalize_name(entry.name): entry for entry in applicable}
    assert len(names) == len(applicable), "one version of each"
    # then all their dependencies are in the list, at an allowed version, and no Windows package is
    waiting = [*((name, "") for name in names), ("psycopg", "binary")]
    needed = [
        need
        for name, extra in waiting
        for need in map(Requirement, _requirements_of(name))
        if need.marker is None or need.marker.evaluate(environment | {"extra": extra})
    ]
    missing = [
        str(need)
        for need in needed
        if canonicalize_name(need.name) not in names
        or not need.specifier.contains(str(names[canonicalize_name(need.name)].specifier).removeprefix("=="))
    ]
    assert missing == []
    assert ("async-timeout" in names) == (python in ("3.11.0", "3.11.2"))
    assert "pywin32" not in names


def test_the_report_names_each_file_in_words(packaged):
    table = release_file_table(packaged.summary, packaged.outputs.release)
    assert {row[0] for row in table.rows} <= set(RELEASE_FILES) and not any("–" in row for row in table.rows)
    answer = package_sentence(packaged.summary, "2024-05-01")
    assert answer.startswith(
        f"Release {packaged.summary.release} for May 2024 is built and tested: the service answered"
    )
