"The comparison of two builds' products reports every difference, and does not report what was only renamed."

import importlib
import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import joblib
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import same_products
from compare_products import Build, Renames, compare, read_renames
from conftest import ROOT

from brewcast.data.partitions import partitions_hash

STAGES = ["ingest", "train", "forecast", "package"]
LIBRARY = """
class Rate:
    def __init__(self, rate="recent", factor=1.0):
        self.rate = rate
        self.factor = factor

    def fit(self, X):
        self.feature_names_in_ = list(X.columns)
        self.level_ = X.mean().to_numpy()
        return self

    def predict(self, X):
        return X[self.rate] * self.factor
"""


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def write_json(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def write_table(path: Path, table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), path)


def write_model(root: Path, module: str = "models", **params) -> None:
    "Fit the model of the toy library, and pickle it as a class of the given module."
    (root / "shop").mkdir(exist_ok=True)
    (root / "shop/__init__.py").touch()
    (root / f"shop/{module}.py").write_text(LIBRARY)
    sys.path.insert(0, str(root))
    try:
        model = importlib.import_module(f"shop.{module}").Rate(**params)
        rows = pd.read_parquet(root / "products/near/train/rows.parquet")
        joblib.dump(model.fit(rows[["recent", "season"]]), root / "products/near/train/model.joblib")
    finally:
        sys.path.remove(str(root))
        for name in [name for name in sys.modules if name.split(".")[0] == "shop"]:
            del sys.modules[name]


def write_hashes(root: Path) -> None:
    "Write the JSON products that contain hashes of other files, and the ids that depend on these hashes."
    at = root / "products/near"
    model = digest(at / "train/model.joblib")
    rows = {"rows.parquet": digest(at / "train/rows.parquet")}
    write_json(at / "ingest/dataset.json", {"sales_sha256": digest(at / "ingest/sales.parquet"), "rows": 3})
    card = {"model_sha256": model, "content_hash": model[:12], "data": rows, "features": ["recent", "season"]}
    write_json(at / "train/card.json", card | {"environment": {"lock": digest(root / "requirements.lock")}})
    shutil.copyfile(at / "train/model.joblib", at / "package/release/model.joblib")
    files = {name: digest(at / "package/release" / name) for name in ("golden.json", "model.joblib", "rows.npz")}
    release = sha256(json.dumps(files).encode()).hexdigest()[:12]
    write_json(at / "package/release/release.json", {"files": files, "release": release, "model_version": release})
    bento = {
        "tag": f"brewcast:{release}",
        "files": {"src/brewcast/app.py": digest(at / "package/bento/src/brewcast/app.py")},
    }
    write_json(at / "package/package.json", {"release": release, "files": files, "challenger": None, "bento": bento})
    write_json(at / "inputs.json", {"build_key": release[::-1], "champion": None})


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    "A small build: a library, its pipeline and the products of one source."
    root = tmp_path_factory.mktemp("first")
    at = root / "products/near"
    (root / "requirements.lock").write_text("pandas==2.3.3\n")
    (root / "pipeline.yaml").write_text("tasks:\n" + "".join(f"  - name: {stage}\n" for stage in STAGES))
    (root / ".venv").symlink_to(Path(sys.prefix))
    numbers = {"store": ["a", "b", "c"], "pieces": pa.array([1, 2, 3], pa.int64()), "price": [0.1, float("nan"), 0.3]}
    write_table(at / "ingest/sales.parquet", numbers)
    write_table(at / "train/rows.parquet", {"recent": [1.0, 2.0, 4.0], "season": [2.0, 2.0, 3.0]})
    (at / "forecast").mkdir()
    (at / "forecast/forecast.csv").write_text("store,quantity\na,1.0\nb,2.5\n")
    (at / "forecast/month.html").write_text("<p>made at noon")
    write_json(at / "forecast/intervals.json", {"level": 1, "factors": {"a": 0.9, "b": 1.5}, "young": [0.0, 2.0]})
    write_json(at / "package/release/golden.json", [{"store": "a", "forecast": 1.0}])
    (at / "package/release/rows.npz").write_bytes(b"rows")
    (at / "package/bento/src/brewcast").mkdir(parents=True)
    (at / "package/bento/src/brewcast/app.py").write_text("import shop\n")
    write_model(root)
    write_hashes(root)
    return root


@pytest.fixture
def second(first, tmp_path):
    "A copy of the first build, for a test to change."
    return Path(shutil.copytree(first, tmp_path / "second", symlinks=True))


def changed(path: str, old: str, new: str):
    "A mistake: another text in a file."

    def plant(at: Path) -> None:
        text = (at / path).read_bytes()
        assert old.encode() in text
        (at / path).write_bytes(text.replace(old.encode(), new.encode()))

    return plant


def sales(change):
    "A mistake: another table of sale lines, with hashes that agree with it."

    def plant(at: Path) -> None:
        write_table(at / "ingest/sales.parquet", change(pq.read_table(at / "ingest/sales.parquet")))
        write_hashes(at.parents[1])  # the hashes of the table agree, so that the table itself is the first difference

    return plant


def with_column(table: pa.Table, name: str, values) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def other_compression(at: Path) -> None:
    pq.write_table(pq.read_table(at / "ingest/sales.parquet"), at / "ingest/sales.parquet", compression="zstd")
    write_hashes(at.parents[1])


def another_factor(at: Path) -> None:
    write_model(at.parents[1], factor=1.0000000000000002)
    write_hashes(at.parents[1])


def changed_golden(at: Path) -> None:
    "A mistake: another file in a release, with hashes that agree with it."
    write_json(at / "package/release/golden.json", [{"store": "a", "forecast": 1.5}])
    write_hashes(at.parents[1])


PLANTED = {  # by mistake in the second build: (function that makes it, file in the report, part of its detail)
    "a float's last digit": (
        sales(lambda t: with_column(t, "price", pa.array([0.1, float("nan"), 0.30000000000000004]))),
        "ingest/sales.parquet",
        "column price, row 3: 0.3, now 0.30000000000000004",
    ),
    "a zero's sign": (
        changed("forecast/intervals.json", "0.0", "-0.0"),
        "forecast/intervals.json",
        "young/0: 0.0, now -0.0",
    ),
    "null in place of NaN": (
        sales(lambda t: with_column(t, "price", pa.array([0.1, None, 0.3]))),
        "ingest/sales.parquet",
        "column price, row 2: nan, now None",
    ),
    "columns in another order": (
        sales(lambda t: t.select(["pieces", "store", "price"])),
        "ingest/sales.parquet",
        "columns in another order",
    ),
    "a column missing": (
        sales(lambda t: t.drop_columns("price")),
        "ingest/sales.parquet",
        "column 'price' is only in the first",
    ),
    "an additional column": (
        sales(lambda t: t.append_column("more", t["price"])),
        "ingest/sales.parquet",
        "column 'more' is only in the second",
    ),
    "a narrower type": (
        sales(lambda t: with_column(t, "pieces", t["pieces"].cast(pa.int32()))),
        "ingest/sales.parquet",
        "column pieces: int64, now int32",
    ),
    "other metadata of pandas": (
        sales(lambda t: t.replace_schema_metadata({"pandas": "{}"})),
        "ingest/sales.parquet",
        "metadata",
    ),
    "rows swapped": (
        sales(lambda t: t.take([1, 0, 2])),
        "ingest/sales.parquet",
        "column store, row 1: 'a', now 'b'",
    ),
    "a missing row": (sales(lambda t: t.slice(0, 2)), "ingest/sales.parquet", "3 rows, now 2"),
    "other bytes of the same table": (other_compression, "ingest/sales.parquet", "only the bytes differ"),
    "a whole number as a fraction": (
        changed("forecast/intervals.json", '"level": 1', '"level": 1.0'),
        "forecast/intervals.json",
        "level: 1, now 1.0",
    ),
    "a number as a boolean": (
        changed("forecast/intervals.json", '"level": 1', '"level": true'),
        "forecast/intervals.json",
        "level: 1, now True",
    ),
    "a number as text": (
        changed("forecast/intervals.json", '"level": 1', '"level": "1"'),
        "forecast/intervals.json",
        "level: 1, now '1'",
    ),
    "a key missing": (
        lambda at: write_json(at / "forecast/intervals.json", {"level": 1, "factors": {"a": 0.9}, "young": [0.0, 2.0]}),
        "forecast/intervals.json",
        "factors: key 'b' is only in the first",
    ),
    "keys in another order": (
        lambda at: (at / "forecast/intervals.json").write_text(
            '{"young": [0.0, 2.0], "level": 1, "factors": {"a": 0.9, "b": 1.5}}'
        ),
        "forecast/intervals.json",
        "keys in another order",
    ),
    "a list's items swapped": (
        lambda at: write_json(
            at / "forecast/intervals.json", {"level": 1, "factors": {"a": 0.9, "b": 1.5}, "young": [2.0, 0.0]}
        ),
        "forecast/intervals.json",
        "young/0: 0.0, now 2.0",
    ),
    "JSON with another layout": (
        lambda at: (at / "forecast/intervals.json").write_text(
            '{"factors": {"a": 0.9, "b": 1.5}, "level": 1, "young": [0.0, 2.0]}'
        ),
        "forecast/intervals.json",
        "only the bytes differ",
    ),
    "another line ending": (
        changed("forecast/forecast.csv", "\n", "\r\n"),
        "forecast/forecast.csv",
        "only the bytes differ",
    ),
    "a number in another notation": (
        changed("forecast/forecast.csv", "a,1.0", "a,1"),
        "forecast/forecast.csv",
        "column quantity, row 1: '1.0', now '1'",
    ),
    "a CSV's columns in another order": (
        lambda at: (at / "forecast/forecast.csv").write_text("quantity,store\n1.0,a\n2.5,b\n"),
        "forecast/forecast.csv",
        "columns in another order",
    ),
    "a file missing": (
        lambda at: (at / "forecast/forecast.csv").unlink(),
        "forecast/forecast.csv",
        "is only in the first",
    ),
    "an additional file": (
        lambda at: write_json(at / "forecast/more.json", {}),
        "forecast/more.json",
        "is only in the second",
    ),
    "a picture missing": (
        lambda at: (at / "forecast/month.html").unlink(),
        "forecast/month.html",
        "is only in the first",
    ),
    "a model's parameter": (another_factor, "train/model.joblib", "factor: 1.0, now 1.0000000000000002"),
    "another file in a release, with its hashes": (
        changed_golden,
        "package/release/golden.json",
        "0/forecast: 1.0, now 1.5",
    ),
    "a hash of no file": (
        lambda at: changed("train/card.json", digest(at / "train/rows.parquet"), "0" * 64)(at),
        "train/card.json",
        "data/rows.parquet: the hash of train/rows.parquet",
    ),
    "the hash of another file": (
        lambda at: changed("train/card.json", digest(at / "train/rows.parquet"), digest(at / "ingest/sales.parquet"))(
            at
        ),
        "train/card.json",
        "data/rows.parquet: the hash of train/rows.parquet",
    ),
    "a hash in a field that is not listed": (
        lambda at: write_json(at / "forecast/intervals.json", {"sha256": digest(at / "train/rows.parquet")}),
        "forecast/intervals.json",
        "only in the first",
    ),
    "the id of another release": (
        lambda at: write_json(
            at / "package/package.json", json.loads((at / "package/package.json").read_text()) | {"release": "0" * 12}
        ),
        "package/package.json",
        "release: the release in package/release, now '000000000000'",
    ),
    "other bytes in a file without a reader": (
        lambda at: (at / "package/release/rows.npz").write_bytes(b"wors"),
        "package/release/rows.npz",
        "only the bytes differ",
    ),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_each_planted_mistake_is_reported_with_its_file(first, second, mistake):
    plant, file, detail = PLANTED[mistake]
    plant(second / "products/near")
    differences = compare(Build(first, "near"), Build(second, "near"))
    assert differences and differences[0].file == file
    assert detail in differences[0].detail
    assert differences[0].stage == file.split("/")[0]


def test_the_same_products_have_no_difference_and_a_page_may_differ(first, second):
    (second / "products/near/forecast/month.html").write_text("<p>made at one")
    (second / "products/near/forecast/.built.json").write_text("{}")
    (second / "products/near/index.html").write_text("<p>about all stages: it belongs to none")
    assert compare(Build(first, "near"), Build(second, "near")) == []


def test_differences_are_in_the_pipelines_order_and_their_hashes_are_not_counted(first, second):
    sales(lambda t: t.slice(0, 2))(second / "products/near")
    changed_golden(second / "products/near")
    differences = compare(Build(first, "near"), Build(second, "near"))
    # then the files that contain their hashes, or are named by one, are not reported
    assert [difference.file for difference in differences] == ["ingest/sales.parquet", "package/release/golden.json"]


def test_a_moved_class_is_a_difference_without_the_map_and_none_with_it(first, second):
    # given the same library with a renamed module: the pickle, hashes, release and build key change
    shutil.rmtree(second / "shop")
    write_model(second, module="recipes")
    (second / "products/near/package/bento/src/brewcast/app.py").write_text("import shop.recipes\n")
    write_hashes(second)
    # when they are compared without a map, and with one
    before, after = Build(first, "near"), Build(second, "near")
    differences = compare(before, after)
    renames = before.renames = Renames({"modules": {"shop.models": "shop.recipes", "shop.unused": "shop.other"}})
    mapped = compare(before, after)
    # then only the models differ without it, and an entry that matched nothing is reported
    assert [difference.file for difference in differences] == ["train/model.joblib", "package/release/model.joblib"]
    assert "shop.models.Rate, now shop.recipes.Rate" in differences[0].detail.replace("'", "")
    assert mapped == []
    assert renames.unused() == ["modules: shop.unused: shop.other"]


def test_renamed_columns_keys_and_files_are_no_difference(first, second):
    # given other names for a column, a key and a stage's folder
    at = second / "products/near"
    table = pq.read_table(at / "ingest/sales.parquet")
    write_table(at / "ingest/sales.parquet", table.rename_columns(["store_id", "pieces", "price"]))
    (at / "forecast/forecast.csv").write_text("store_id,quantity\na,1.0\nb,2.5\n")
    write_hashes(second)
    write_json(at / "forecast/intervals.json", {"level": 1, "a_factors": {"a": 0.9, "b": 1.5}, "young": [0.0, 2.0]})
    (at / "forecast").rename(at / "ahead")
    renames = {
        "columns": {"store": "store_id"},
        "keys": {"forecast/intervals.json:factors": "a_factors"},
        "files": {"forecast": "ahead"},
    }
    # then nothing differs with the whole map, and something does without any one section
    assert compare(Build(first, "near", Renames(renames)), Build(second, "near")) == []
    for section in renames:
        others = {name: entries for name, entries in renames.items() if name != section}
        assert compare(Build(first, "near", Renames(others)), Build(second, "near"))


def test_a_renamed_column_does_not_hide_another_value(first, second):
    at = second / "products/near"
    table = pq.read_table(at / "ingest/sales.parquet").rename_columns(["store_id", "pieces", "price"])
    write_table(at / "ingest/sales.parquet", with_column(table, "pieces", pa.array([1, 2, 4])))
    write_hashes(second)
    differences = compare(Build(first, "near", Renames({"columns": {"store": "store_id"}})), Build(second, "near"))
    assert differences[0].detail == "column pieces, row 3: 3, now 4"


def test_a_reworded_message_is_no_difference_but_another_figure_in_it_is(first, second):
    # given a message in each kind of product, in the first commit's words and in the second's
    old, new = "12 rows are quarantined", "{} rows are rejected"
    for root, text in ((first, old), (second, new.format(12))):
        at = root / "products/near/train"
        write_json(at / "notes.json", {"reason": text})
        write_table(at / "notes.parquet", {"reason": [text]})
        (at / "notes.csv").write_text(f"reason\n{text}\n")
    renames = Renames({"texts": {r"(\d+) rows are quarantined": r"\1 rows are rejected"}})
    try:
        # then they are the same only with the map, and only if the figure is the same
        assert compare(Build(first, "near", renames), Build(second, "near")) == []
        assert renames.unused() == []
        assert len(compare(Build(first, "near"), Build(second, "near"))) == 3
        at = second / "products/near/train"
        write_json(at / "notes.json", {"reason": new.format(13)})
        write_table(at / "notes.parquet", {"reason": [new.format(13)]})
        (at / "notes.csv").write_text(f"reason\n{new.format(13)}\n")
        differences = compare(Build(first, "near", renames), Build(second, "near"))
        assert [difference.detail.rpartition(": ")[2] for difference in differences] == [
            "'12 rows are quarantined', now '13 rows are rejected'"
        ] * 3
    finally:
        for path in (first / "products/near/train").glob("notes.*"):
            path.unlink()


def test_an_invalid_map_is_refused(first, tmp_path):
    path = tmp_path / "renames.yaml"
    path.write_text("colums: {a: b}\n")
    with pytest.raises(
        ValueError, match="'colums' is not a section: the sections are columns, keys, files, modules, texts"
    ):
        read_renames(path)
    for text in ("[keys]\n", "keys: a\n", "keys: [a]\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match="sections are expected"):
            read_renames(path)
    for content in (b"keys: {a: b", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="renames.yaml, the map of renames, cannot be read"):
            read_renames(path)
    with pytest.raises(ValueError, match="none.yaml, the map of renames, cannot be read"):
        read_renames(tmp_path / "none.yaml")
    path.write_text('texts: {"(": b}\n')
    with pytest.raises(ValueError, match="'\\(' is not a regular expression"):
        read_renames(path)
    path.write_text("keys: {a: 1}\n")
    with pytest.raises(ValueError, match="keys: a: a name is expected, not 1"):
        read_renames(path)
    with pytest.raises(ValueError, match="gives the name 'level' to two items"):
        renames = Renames({"keys": {"young": "level"}})
        Build(first, "near", renames).readable({"young": 1, "level": 2}, "forecast/intervals.json")


def test_the_committed_map_is_valid():
    sections = read_renames(ROOT / "bench/renames.yaml").sections
    assert not any(sections[section] for section in ("columns", "files"))  # no name of these sections has changed
    assert all(importlib.import_module(name) for name in sections["modules"].values())


def test_a_hash_in_a_field_that_is_not_listed_is_compared_as_text(first, second):
    for root, digits in ((first, "0"), (second, "1")):
        write_json(root / "products/near/train/notes.json", {"run": digits * 12})
    try:
        differences = compare(Build(first, "near"), Build(second, "near"))
    finally:
        (first / "products/near/train/notes.json").unlink()
    assert [difference.detail for difference in differences] == ["run: '000000000000', now '111111111111'"]


def test_the_report_has_the_first_difference_and_the_number_by_stage(first, second):
    sales(lambda t: t.slice(0, 2))(second / "products/near")
    changed_golden(second / "products/near")
    (second / "products/near/forecast/forecast.csv").unlink()
    differences = compare(Build(first, "near"), Build(second, "near"))
    assert same_products.report("near", differences, 9).splitlines() == [
        "near: NOT the same. The first difference is in ingest, ingest/sales.parquet: 3 rows, now 2",
        "  3 products differ: ingest 1, forecast 1, package 1",
        "  forecast/forecast.csv: the file is only in the first commit",
    ]
    assert same_products.report("near", [], 9) == "near: 9 products are the same"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["HEAD", "HEAD~no"], "HEAD~no is not a commit of"),
        (["HEAD", "HEAD", "--source", "walmart", "--data", "nowhere"], "the data of walmart is not in nowhere"),
        (["HEAD", "HEAD", "--rename", "nowhere.yaml"], "nowhere.yaml"),
        (["HEAD"], "the following arguments are required: COMMIT"),
        (["HEAD", "HEAD", "--source", "tea"], "invalid choice: 'tea'"),
    ],
)
def test_wrong_arguments_are_reported_before_any_build(monkeypatch, capsys, arguments, message):
    data = [] if "--data" in arguments else ["--source", "simulated"]
    monkeypatch.setattr(sys, "argv", ["same_products.py", *arguments, *data])
    with pytest.raises(SystemExit) as exit_info:
        same_products.main()
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_the_examples_in_the_committed_map_have_every_section(tmp_path):
    lines = (ROOT / "bench/renames.yaml").read_text().splitlines()
    examples = [line.removeprefix("# ") for line in lines[lines.index("#") + 1 : lines.index("")]]
    (tmp_path / "renames.yaml").write_text("\n".join(examples))
    assert {section for section, names in read_renames(tmp_path / "renames.yaml").sections.items() if names} == {
        *Renames.SECTIONS
    }


def test_other_bytes_of_a_month_are_one_difference_and_its_hashes_none(tmp_path):
    # given two builds whose months have the same lines, one of them written in another way
    table = pa.table({"store_id": ["S1", "S2"], "quantity_sold": [3, 4]})
    for name, compression in (("old", "snappy"), ("new", "zstd")):
        at = tmp_path / name / "products/near/ingest"
        (at / "sales").mkdir(parents=True)
        (tmp_path / name / "requirements.lock").write_text("")
        (tmp_path / name / "pipeline.yaml").write_text("tasks: [{name: ingest}]\n")
        hashes = {}
        for month, lines, chosen in (("2024-01", table, compression), ("2024-02", table[:1], "snappy")):
            pq.write_table(lines, at / f"sales/{month}.parquet", compression=chosen)
            hashes[month] = digest(at / f"sales/{month}.parquet")
        partitions = {month: {"rows": 2, "sha256": value} for month, value in hashes.items()}
        write_json(at / "dataset.json", {"sales_sha256": partitions_hash(partitions), "partitions": partitions})
    # when they are compared
    old, new = (Build(tmp_path / name, "near") for name in ("old", "new"))
    # then the file is named, and dataset.json is the same
    found = [(difference.file, difference.detail) for difference in compare(old, new)]
    assert [file for file, _ in found] == ["ingest/sales/2024-01.parquet"] and "only the bytes differ" in found[0][1]
