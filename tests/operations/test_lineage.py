"Lineage: all hashes of a trace are right, damage is found at the damaged link, and a file leads to its forecasts."

import contextlib
import csv
import hashlib
import json
import re
import shutil
import sqlite3
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest
from releases import FOREST, make_products
from tills import ingest_paths

from brewcast.common import mlflow_models
from brewcast.common.core import write_json, write_parquet
from brewcast.common.hashing import sha256
from brewcast.common.ledger import read_ledger, resolve_inputs
from brewcast.common.mlflow_models import registered_version
from brewcast.common.params import read_env
from brewcast.common.records import Recipe, Verdict
from brewcast.data.ingest import ingest
from brewcast.data.source_files import source_tables
from brewcast.delivery.package import bento_hashes, folder_hashes, write_release
from brewcast.operations import lineage as module
from brewcast.operations.lineage import (
    BOX_WIDTH,
    Link,
    Trace,
    file_trace_report,
    trace_file,
    trace_forecast,
    trace_report,
    trace_svg,
    write_trace_svg,
)
from brewcast.registry.promotion import published_ledger
from brewcast.registry.publish import publish

ENV = """
meta: {import_from: env.yaml}
source: split
data: data/split
floor: null
judged: 4
train: {partners: [rate_seasonal], weights: [0.75], n_estimators: 5}
files:
  - name: till
    path: till_*.csv
    date_format: "%Y-%m-%d"
    columns: {STOREID: text, DATE: date, COUNTRY: text, CITY: text, PRODUCTCATEGORY: text, PRODUCT: text,
      QUANTITYSOLD: integer, PRICE: decimal, TOTALSALE: decimal, WEATHER: "text?", PROMOTION: "yes_no?", HOLIDAY: boolean}
  - name: plan
    path: globojava_plan.csv
    date_format: "%Y-%m-%d"
    columns: {STOREID: text, MONTH: date, PUBLISHED: date, PROMOTIONSHARE: decimal, PRICE: decimal, TRADINGDAYS: integer}
"""
STORE = "STORE101"


def export(root: Path, before: str) -> None:
    "The simulated sales before a day, exported as two files: the stores with odd numbers, and those with even numbers."
    data, folder = root / "data" / "simulated", root / "offices"
    folder.mkdir(exist_ok=True)
    header, *lines = (data / "globojava.csv").read_text().splitlines()
    for name, odd in {"till_odd.csv": True, "till_even.csv": False}.items():
        own = [line for line in lines if re.match(r"STORE\d+,", line) and line.split(",")[1] < before]
        own = [line for line in own if int(line.split(",")[0][5:]) % 2 == odd]
        (folder / name).write_text("\n".join([header, *own]) + "\n")
    (folder / "globojava_plan.csv").write_bytes((data / "globojava_plan.csv").read_bytes())


@pytest.fixture(scope="module")
def shop(project):
    "A source of two files, built and published at the end of March 2024."
    root = project.root
    (root / "env.split.yaml").write_text(ENV)
    export(root, "2024-04-01")
    project.run("make run SOURCE=split DATA=offices")
    return at(root)


@pytest.fixture(scope="module")
def later(shop, tmp_path_factory):
    "The same shop a month later: its files have more lines, were ingested again, and another release serves."
    root = tmp_path_factory.mktemp("later") / "shop"
    shutil.copytree(shop.root, root, symlinks=True)
    export(root, "2024-05-01")
    made, products = make_products(root / "beside", 12, FOREST), root / "products/split"
    with contextlib.chdir(root):
        env, gives = read_env(root, "env.split.yaml"), ingest_paths(products / "ingest")
        names = "source data sql plan_sql files lacks key categories returns max_bad_share".split()
        env["files"] = source_tables(env["files"])
        ingest(**{name: env[name] for name in names}, product_paths=gives)
    shutil.copytree(made.forecast.parent, products / "forecast", dirs_exist_ok=True)
    shutil.copy(made.forecast.parent / "model.joblib", products / "train")
    shutil.rmtree(products / "package")
    release, bento = products / "package/release", products / "package/bento"
    release.mkdir(parents=True)
    described = write_release(release, made.table, made.online, made.forecast.parent, "numpy\n")
    shutil.copytree(release, bento / "src/release")
    package = {"release": described.release, "files": folder_hashes(release)}
    package["smoke"] = {"stores_equal": 12, "refused": {}}
    package["bento"] = {"tag": f"brewcast:{described.release}", "files": bento_hashes(bento)}
    decided = {"promoted": True, "verdict": "promote", "rule": "gain", "reason": "it is better"}
    decided["recipe"] = Recipe.model_validate(FOREST)
    verdict = Verdict.read(products / "evaluate/verdict.json").model_copy(update=decided)
    verdict = write_json(verdict, products / "evaluate/verdict.json")
    package["made_from"] = {path.name: sha256(path) for path in (made.forecast, verdict)}
    write_json(package, products / "package/package.json")
    (products / "package/challenger").mkdir()
    package |= {"challenger": None, "challenger_files": {}}
    write_json(package, products / "package/package.json")
    inputs = resolve_inputs("split", root, "a month later").model_copy(update={"build_key": "a month later"})
    write_json(inputs, products / "inputs.json")
    publish("split", root)
    return at(root)


def at(root: Path) -> SimpleNamespace:
    return SimpleNamespace(root=root, state=root / "state/split", made=root / "products/split")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def by_name(result: Trace) -> dict[str, Link]:
    return {Path(link.path).name if link.link != "MLflow" else "MLflow": link for link in result.links}


def hash_of(path: Path) -> str:
    "The hash of a file, or of a folder of months: of its files' names and hashes."
    if path.is_file():
        return digest(path)
    names = sorted(file.name for file in path.iterdir())
    return hashlib.sha256("\n".join(f"{name} {digest(path / name)}" for name in names).encode()).hexdigest()


def test_every_link_has_the_hash_of_its_file(shop):
    # when the forecast that serves is traced
    result = trace_forecast(shop.root, "split", STORE)
    links = by_name(result)
    # then the links are in order, and each hash is that of the file
    assert [link.link for link in result.links] == (
        ["forecast", "ledger", "release", "model", "MLflow", "training rows", "features", *["feature table"] * 3]
        + ["store-months", "sale lines", "lineage", *["source file"] * 3]
    )
    assert {link.state for link in result.links} == {"ok"} and result.broken is None
    for link in result.links:
        if link.link not in ("ledger", "release", "MLflow"):
            assert link.sha256 == link.recorded == hash_of(shop.root / link.path), link
    # and ledger, release, MLflow and run record agree
    entry = read_ledger(shop.state)[-1]
    assert links["release.json"].sha256 == entry.release == (shop.state / "current").resolve().name
    assert links["model.joblib"].sha256 == entry.model_hash
    with contextlib.closing(sqlite3.connect(shop.state / "mlflow.db")) as db:
        run = db.execute("SELECT run_uuid FROM tags WHERE key = 'content_hash' AND value = ?", [entry.model_hash[:12]])
        assert links["MLflow"].run_id == run.fetchone()[0]
    assert links["MLflow"].aliases == ["champion"]
    assert links["MLflow"].data["rows.parquet"] == links["rows.parquet"].sha256
    assert (result.serves, result.month, result.entry) == (True, "2024-04", 1)
    assert (shop.state / "runs" / f"{result.run}.json").exists() and result.run.endswith(entry.made_in)
    # and the JSON has what each kind of link knows
    fields = {each["link"]: list(each) for each in result.content()["links"]}
    common = ["link", "state", "path", "sha256", "recorded"]
    assert fields["model"] == [*common, "told", "brief"]
    assert fields["forecast"] == fields["features"] == [*common, "told", "brief", "values"]
    version = ["version", "run_id", "run", "status", "content_hash", "aliases", "data"]
    assert fields["MLflow"] == [*common, "brief", *version, "told"]
    assert fields["source file"] == [*common, "told", "brief", "table", "plan", "own_lines"]


def test_every_link_has_the_values_of_the_store(shop):
    links = by_name(trace_forecast(shop.root, "split", STORE))
    with open(shop.made / "forecast/forecast.csv", newline="", encoding="utf-8-sig") as file:
        row = next(row for row in csv.DictReader(file) if row["kind"] == "forecast" and row["store_id"] == STORE)
    forecast = next(link for link in links.values() if link.link == "forecast")
    assert round(forecast.values["forecast"]) == int(row["quantity"])
    rows = pd.read_parquet(shop.made / "train/rows.parquet")
    known = rows[rows.actual.notna()]
    link = links["rows.parquet"]
    assert (link.rows, link.own_rows) == (len(known), (known.series_id == STORE).sum())
    assert (len(link.cutoffs), link.cutoffs[-1]) == (known.cutoff.nunique(), "2024-02-29")
    own = rows[(rows.series_id == STORE) & (rows.cutoff == "2024-03-31")].iloc[0]
    values = links["online.parquet"].values
    assert len(values) == 35 and all(module.is_same_value(value, own[name]) for name, value in values.items())


def test_the_lineage_agrees_with_the_lines_of_the_files(shop):
    # given the lines of the source file, read by Python's csv module
    links = by_name(trace_forecast(shop.root, "split", STORE))
    lines, first, last, pieces = Counter(), {}, {}, Counter()
    with open(shop.root / "data/split/till_odd.csv", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            if row["STOREID"] == STORE:
                month = row["DATE"][:7]
                lines[month] += 1
                pieces[month] += int(row["QUANTITYSOLD"])
                first.setdefault(month, number)
                last[month] = number
    # then the lineage agrees for each month, and the file's link has the total
    recorded = links["lineage.parquet"].months
    assert [
        (r["month"], r["file"], r["lines"], r["first_line"], r["last_line"], r["quantity_sold"]) for r in recorded
    ] == [(month, "till_odd.csv", lines[month], first[month], last[month], pieces[month]) for month in sorted(lines)]
    assert links["till_odd.csv"].own_lines == lines.total() and links["till_even.csv"].own_lines == 0
    # and the totals agree with sales.parquet and dataset.json
    lineage, sales = (pd.read_parquet(shop.made / f"ingest/{name}") for name in ("lineage.parquet", "sales"))
    months = pd.to_datetime(sales.date).dt.strftime("%Y-%m-01")
    expected = sales.groupby([sales.store_id, months]).agg(
        lines=("date", "size"), quantity_sold=("quantity_sold", "sum")
    )
    recorded = (
        lineage.assign(month=lineage.month.astype(str)).groupby(["store_id", "month"])[["lines", "quantity_sold"]].sum()
    )
    assert (
        expected.to_numpy().tolist() == recorded.to_numpy().tolist()
        and expected.index.tolist() == recorded.index.tolist()
    )
    dataset = json.loads((shop.made / "ingest/dataset.json").read_text())
    rows_in = {file: rows["rows_in"] for file, rows in dataset["tables"]["till"]["files"].items()}
    assert lineage.groupby("file").lines.sum().to_dict() == rows_in and sum(rows_in.values()) == dataset["rows_in"]


@contextlib.contextmanager
def damaged(path: Path, change=None):
    "A file that is changed or removed until the block ends."
    before = path.read_bytes()
    try:
        change(path) if change else path.unlink()
        yield
    finally:
        path.write_bytes(before)


def another_value(column: str, row: int = -1):
    def change(path: Path):
        frame = pq.read_table(path).to_pandas(date_as_object=False)
        values = frame[column].tolist()
        values[row] = values[row] * 2 + 1
        write_parquet(frame.assign(**{column: values}), path)

    return change


def one_more(text: bytes):
    return lambda path: path.write_bytes(path.read_bytes() + text)


def says_otherwise(old: str, new: str):
    return lambda path: path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))


DAMAGE = {  # link: file, and the change
    "forecast": ("state/split/forecasts/2024-03-31-{release}.parquet", another_value("forecast")),
    "ledger": (
        "state/split/ledger.db",
        says_otherwise('"train_through": "2024-03-01"', '"train_through": "2024-02-01"'),
    ),
    "release": ("state/split/releases/{release}/golden.json", one_more(b" ")),
    "model": ("state/split/releases/{release}/model.joblib", one_more(b" ")),
    "training rows": ("products/split/train/rows.parquet", another_value("rate_last")),
    "features": ("state/split/releases/{release}/online.parquet", another_value("rate_last")),
    "feature table": ("products/split/features/history.parquet", another_value("rate_last", 3)),
    "store-months": ("products/split/clean/store_month.parquet", another_value("quantity_sold")),
    "sale lines": ("products/split/ingest/sales/2024-02.parquet", another_value("quantity_sold")),
    "lineage": ("products/split/ingest/lineage.parquet", another_value("lines")),
    "source file": ("data/split/till_odd.csv", one_more(b"STORE101,2024-03-31\n")),
}


@pytest.mark.parametrize("link", DAMAGE)
def test_damage_is_found_at_the_damaged_link(shop, link):
    name, change = DAMAGE[link]
    path = shop.root / name.format(release=(shop.state / "current").resolve().name)
    with damaged(path, change):
        result = trace_forecast(shop.root, "split", STORE)
    changed = [each for each in result.links if each.state != "ok"]
    assert [(each.link, each.state) for each in changed] == [(link, "changed")]
    assert result.broken == f"{link} {changed[0].path}"
    assert f"broken at the {result.broken}" in trace_report(result)
    assert ("make restore" if name.startswith("state") else "brewcast verify") in trace_report(result).splitlines()[-1]
    if path.suffix in (".parquet", ".csv") and link != "forecast":
        with damaged(path):
            result = trace_forecast(shop.root, "split", STORE)
        state = "changed" if path.parent.name == "sales" else "gone"  # the folder without one month is another folder
        assert [(each.link, each.state) for each in result.links if each.state != "ok"] == [(link, state)]
        trace_svg(result)


def test_another_alias_in_the_registry_is_found(shop):
    path = shop.state / "mlflow.db"

    def other_champion(path):
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE registered_model_aliases SET version = 9")

    with damaged(path, other_champion):
        result = trace_forecast(shop.root, "split", STORE)
    assert result.broken == "MLflow state/split/mlflow.db"


def test_mlflows_client_and_its_database_agree(shop):
    for entry in published_ledger("split", shop.root):
        digest = entry.model_hash[:12]
        from_database, from_client = (
            registered_version("split", shop.root, digest),
            mlflow_models._version_by_client("split", shop.root, digest),
        )
        assert from_database == from_client._replace(version=from_database.version)
        assert str(from_database.version) == str(from_client.version)
    assert registered_version("split", shop.root, "0" * 12) is None


def test_a_trace_of_an_earlier_forecast_names_files_of_later_builds(shop, later):
    # when the earlier forecast of April is traced a month later
    result, before = (
        trace_forecast(later.root, "split", STORE, "2024-04"),
        by_name(trace_forecast(shop.root, "split", STORE)),
    )
    links = by_name(result)
    assert not result.serves and result.broken is None and trace_forecast(later.root, "split", STORE).month == "2024-05"
    # then files that a later build wrote have the state `since`, with the hash that was recorded for the forecast
    since = ["sales", "lineage.parquet", "till_odd.csv", "till_even.csv"]
    assert [name for name, link in links.items() if link.state == "since"] == since
    for name, link in links.items():
        assert (link.recorded, link.state) == (before[name].recorded, "since" if name in since else "ok")
        assert (link.sha256 != before[name].sha256) == (name in since), name
    assert links["lineage.parquet"].months[-1]["month"] == "2024-03"
    report = trace_report(result)
    assert f"{links['till_odd.csv'].sha256[:12]} (was {before['till_odd.csv'].sha256[:12]})" in report
    assert f"4 files were written by a later build since then; `brewcast verify {result.run}` builds" in report
    # and a file of neither build is changed
    with damaged(later.made / "ingest/sales/2024-02.parquet", another_value("quantity_sold")):
        assert trace_forecast(later.root, "split", STORE, "2024-04").broken.startswith("sale lines")


def test_without_a_run_record_a_forecast_is_compared_with_its_release(later):
    folder = later.state / "runs"
    folder.rename(later.state / "kept")
    try:
        result = trace_forecast(later.root, "split", STORE, "2024-04")
        assert result.broken is None and result.run is None
        assert "equals the answer of its release" in result.links[0].told
        with damaged(later.root / result.links[0].path, another_value("forecast", 0)):
            assert trace_forecast(later.root, "split", STORE, "2024-04").broken.startswith("forecast")
        assert trace_file(later.root, "split", "till_odd.csv").unknown == [1]
    finally:
        (later.state / "kept").rename(folder)


def test_unknown_stores_months_and_files_are_refused_with_the_known_ones(shop):
    with pytest.raises(
        ValueError, match=r"no store 'STORE1O1' among the \d+ stores of 2024-04; the nearest are STORE1"
    ):
        trace_forecast(shop.root, "split", "STORE1O1")
    with pytest.raises(ValueError, match="no forecast of 2023-01 was published; the published months are 2024-04"):
        trace_forecast(shop.root, "split", STORE, "2023-01")
    with pytest.raises(ValueError, match=r"till.csv: no build of split has read.*data/split/till_even.csv"):
        trace_file(shop.root, "split", "till.csv")
    with pytest.raises(ValueError, match="nothing was published yet; `make run SOURCE=walmart`"):
        trace_forecast(shop.root, "walmart", "1")


def test_forward_finds_the_stores_of_a_file_and_the_forecasts_on_it(shop, monkeypatch):
    result = trace_file(shop.root, "split", "data/split/till_odd.csv")
    (version,) = result.versions
    # exactly the stores with odd numbers, with their lines
    text = (shop.root / "data/split/till_odd.csv").read_text().splitlines()[1:]
    quarantine = pd.read_parquet(shop.made / "ingest/quarantine.parquet")
    bad = set(quarantine[quarantine.file == "till_odd.csv"].line)
    lines = Counter(line.split(",")[0] for n, line in enumerate(text, start=2) if n not in bad)
    assert {store: facts.lines for store, facts in version.stores.items()} == lines and len(lines) == 6
    # the run that read the file, and the forecast that is based on it
    (forecast,) = version.forecasts
    served = pd.read_parquet(shop.root / forecast.path).store_id
    assert (forecast.n, forecast.month, forecast.stores) == (1, "2024-04", len(served))
    assert forecast.own_stores == served.isin(lines).sum()
    assert version.now and version.runs == [path.stem for path in (shop.state / "runs").glob("*.json")]
    # the file can be given by its name, the target of a link, a relative path, or its hash
    monkeypatch.chdir(shop.root / "nbs")
    for name in ("till_odd.csv", str(shop.root / "offices/till_odd.csv"), "../data/split/till_odd.csv"):
        assert trace_file(shop.root, "split", name) == result
    assert trace_file(shop.root, "split", version.sha256[:12]) == result
    assert "serves now" in file_trace_report(result) and max(map(len, file_trace_report(result).splitlines())) <= 100
    # a plan has its own lines, and the forecast is based on it too
    result = trace_file(shop.root, "split", "globojava_plan.csv")
    (plan,) = result.versions
    assert {store: facts.lines for store, facts in plan.stores.items()} == lines_of_plan(shop)
    assert len(plan.forecasts) == 1 and "lines of the plan for 12 stores" in file_trace_report(result)


def lines_of_plan(shop: SimpleNamespace, through: str = "9999") -> Counter:
    "How many lines the plan's file has for each store, up to a month."
    with open(shop.root / "data/split/globojava_plan.csv", newline="") as file:
        return Counter(row["STOREID"] for row in csv.DictReader(file) if row["MONTH"][:7] <= through)


def test_the_plans_link_has_the_lines_of_the_store(shop):
    # given the plan's lines up to the forecast month, when the forecast is traced
    expected = lines_of_plan(shop, "2024-04")[STORE]
    link = by_name(trace_forecast(shop.root, "split", STORE))["globojava_plan.csv"]
    # then its link has their number
    assert link.own_lines == expected > 12
    assert link.told[0].startswith(f"{expected} lines of {STORE}, {expected} months, ")


def test_forward_from_a_file_that_changed_later(shop, later):
    with damaged(later.root / "data/split/till_odd.csv", one_more(b"\n")):
        old, new, now = trace_file(later.root, "split", "till_odd.csv").versions
    # the earlier version, with unknown lines; the version of the last build; the current version, which no build read
    assert (old.sha256, old.stores) == (digest(shop.root / "data/split/till_odd.csv"), None)
    assert [[each.month for each in v.forecasts] for v in (old, new, now)] == [["2024-04"], ["2024-05"], []]
    assert [version.now for version in (old, new, now)] == [False, False, True] and len(new.stores) == 6


def test_the_text_fits_a_screen(later):
    for month in ("2024-04", "2024-05"):
        for width in (80, 100, 120):
            lines = trace_report(trace_forecast(later.root, "split", STORE, month), width).splitlines()
            assert len(lines) <= (50 if width >= 100 else 60)
            assert all(len(line) <= width for line in lines[2:-1])


def test_the_picture_fits_every_text_and_loads_nothing(shop):
    result = trace_forecast(shop.root, "split", STORE)
    path = write_trace_svg(result, root=shop.root)
    assert path.read_text() == trace_svg(trace_forecast(shop.root, "split", STORE))
    svg = ET.fromstring(path.read_text())
    width, height = (float(svg.get(side)) for side in ("width", "height"))
    assert width <= 1440 and not re.search(r"<script|href|@import|url\((?!#)", path.read_text())
    boxes = [group for group in svg.iter() if group.tag.endswith("}g")]
    places = []
    for group in boxes:
        rect = next(part for part in group if part.tag.endswith("}rect"))
        x, y, wide, high = (float(rect.get(k)) for k in ("x", "y", "width", "height"))
        texts = [part for part in group if part.tag.endswith("}text")]
        for text in texts:
            length = 0.61 * float(text.get("font-size")) * len(text.text)
            start = float(text.get("x")) - (length if text.get("text-anchor") else 0)
            assert x < start and start + length < x + wide and y < float(text.get("y")) < y + high, text.text
        assert len(texts[0].text) + len(texts[1].text) < BOX_WIDTH / 6.8 - 2  # title and state side by side
        assert x + wide <= width and y + high <= height
        places.append((x, y, wide, high))
    for i, (x, y, wide, high) in enumerate(places):
        assert not any(abs(x - a) < wide and (y < b + h and b < y + high) for a, b, _, h in places[i + 1 :])
    words = " ".join(text.text for text in svg.iter() if text.tag.endswith("}text"))
    for link in result.links:
        assert link.link in ("feature table", "lineage") or link.sha256[:12] in words
    assert "till_odd.csv" in words and "plan" in words
