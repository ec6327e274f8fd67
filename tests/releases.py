"Small products, releases and Bentos for tests: a fitted forest with few trees, and its forecast."

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd

from brewcast.common.core import write_json, write_parquet
from brewcast.common.hashing import sha256
from brewcast.common.ledger import resolve_inputs
from brewcast.common.records import (
    Decision,
    DecisionFigures,
    Evidence,
    GateResult,
    IntervalSummary,
    LedgerEntry,
    LedgerRelease,
    ModelDescription,
    Recipe,
    Verdict,
)
from brewcast.delivery.package import bento_hashes, folder_hashes, write_release
from brewcast.model.recipes import CATEGORICAL_FEATURES, FEATURES, build_model

ROOT = Path(__file__).resolve().parent.parent
SEASONAL, FOREST = Recipe(name="seasonal", params={}), Recipe(name="forest", params={"n_estimators": 3})
INTERVAL_FACTORS = {
    "own_season": [0.9, 1.1],
    "young": [0.7, 1.4],
}  # lower and upper; a store without its own factors gets those of a cold start (`young`)


def make_products(folder: Path, stores: int = 30, recipe: Recipe | None = None) -> SimpleNamespace:
    "The products that the stage `package` reads, from a small model. The first four stores have no plan."
    random = np.random.default_rng(7)
    rows = pd.DataFrame(random.uniform(0.5, 1.5, (stores, len(FEATURES))), columns=FEATURES)
    rows[CATEGORICAL_FEATURES] = "some"
    rows.loc[:3, "promotion_next"] = np.nan
    rows["has_own_season"] = (np.arange(stores) != 5).astype("int64")
    rows.insert(0, "series_id", [f"STORE{101 + i}" for i in range(stores)])
    recipe = recipe or Recipe(name="forest", params={"n_estimators": 5})
    sold = rows.rate_mean3 * rows.expected_units * random.uniform(0.7, 1.4, stores)
    model = build_model(recipe).fit(rows[FEATURES], sold)
    table = pd.DataFrame({"store_id": rows.series_id, "series_id": rows.series_id, "month": pd.Timestamp("2024-05-01")})
    table["cutoff"] = table["features_as_of"] = pd.Timestamp("2024-04-30")
    table["young"], table["recipe"] = rows.has_own_season == 0, recipe.name
    table["forecast"] = model.predict(rows[FEATURES])
    for side, name in enumerate(["lower", "upper"]):
        factors = {young: INTERVAL_FACTORS["young" if young else "own_season"][side] for young in (True, False)}
        table[name] = table.forecast * table.young.map(factors)
    forecast = write_parquet(table, folder / "forecast" / "forecast.parquet")
    factors = dict.fromkeys(table.store_id[~table.young], INTERVAL_FACTORS["own_season"])
    write_json(
        {"coverage": 0.8, "factors": factors, "young": INTERVAL_FACTORS["young"]}, forecast.parent / "intervals.json"
    )
    joblib.dump(model, forecast.parent / "model.joblib")
    model_hash = sha256(forecast.parent / "model.joblib")
    trained = ModelDescription(recipe=recipe, train_through="2024-04-30", model_sha256=model_hash)
    write_json(trained, forecast.parent / "recipe.json")
    write_json(ModelDescription(recipe=None), forecast.parent / "challenger" / "recipe.json")
    verdict = write_json(make_verdict(recipe), folder / "evaluate" / "verdict.json")
    return SimpleNamespace(forecast=forecast, online=rows, verdict=verdict, table=table)


def make_release(folder: Path) -> SimpleNamespace:
    "A release of 30 stores: its `folder`, and the `products` that it was made from."
    products, release = make_products(folder / "products"), folder / "release"
    release.mkdir()
    write_release(release, products.table, products.online, products.forecast.parent, "numpy\n")
    return SimpleNamespace(folder=release, products=products)


def add_release(state: Path, recipe: Recipe, stores: int = 12) -> str:
    "Make a release and copy it into a state, as publish does. Returns its name."
    with tempfile.TemporaryDirectory() as folder:
        products, release = make_products(Path(folder) / "products", stores, recipe), Path(folder) / "release"
        release.mkdir()
        description = write_release(release, products.table, products.online, products.forecast.parent, "numpy\n")
        shutil.copytree(release, state / "releases" / description.release)
    return description.release


def product_paths(folder: Path) -> SimpleNamespace:
    "The products of the stage `package`."
    return SimpleNamespace(
        release=folder / "package/release",
        challenger=folder / "package/challenger",
        bento=folder / "package/bento",
        package=folder / "package/package.json",
    )


VERDICTS = {
    "promote": GateResult(promoted=True, verdict="promote", rule="gain", reason="it is better"),
    "refuse": GateResult(promoted=False, verdict="refuse", rule="min_gain", reason="it is no better"),
}


def make_verdict(recipe: Recipe, verdict: str = "promote", **fields) -> Verdict:
    "A verdict without figures: the recipe serves. `fields` replaces some of its fields."
    evidence = Evidence(gain=0, p_value=1, months_won=0, months=0, wape_candidate=0, wape_champion=0, groups=[])
    intervals = IntervalSummary(
        asked=0.8, coverage=None, interval=None, constant_coverage=None, constant_interval=None, by_group={}
    )
    toy = VERDICTS[verdict].content() | dict.fromkeys(["recipe", "candidate", "champion"], recipe)
    toy |= dict.fromkeys(["cutoffs", "by_month", "by_country", "by_size", "bias"], [])
    toy |= {"figures": evidence, "challenger": None, "better_baseline": None, "errors": {}, "intervals": intervals}
    return Verdict(**toy | {"first_champion": False, "coverage_asked": 0.8} | fields)


def make_decision(trusted: bool = True, reason: str = "the calendar asks for it") -> Decision:
    "A decision to train on all months."
    figures = DecisionFigures(age=None, alarm="", chart="", moved=None, every=None, max_age=None, on_drift=True)
    return Decision(
        retrain=True,
        train_through="2024-04-01",
        rule="calendar",
        reason=reason,
        trusted=trusted,
        findings=[],
        figures=figures,
    )


def ledger_release(release: str, recipe: Recipe = SEASONAL, cutoff: str = "2024-04-30") -> LedgerRelease:
    "A release as an entry of the ledger has it."
    model = {"release": release, "recipe": recipe, "train_through": cutoff, "cutoff": cutoff}
    return LedgerRelease(**model, model_hash="f" * 64, made_in=None)


def ledger_entry(release: str, recipe: Recipe = SEASONAL, cutoff: str = "2024-04-30", **fields) -> LedgerEntry:
    "An entry as `publish` writes it, by default without a challenger. `fields` replaces some of its fields."
    toy = {"action": "publish", "challenger": None, "barred": [], "verdict": VERDICTS["promote"]}
    return LedgerEntry(**ledger_release(release, recipe, cutoff).content() | toy | fields)


def write_products(
    root: Path, key: str, recipe: Recipe, verdict: str = "promote", stores: int = 12, challenger: Recipe | None = None
) -> Path:
    "The products of one build that publish reads. The Bento's folder has the real layout, but is not built."
    folder = root / "products" / "shop"
    shutil.rmtree(folder, ignore_errors=True)
    products = make_products(folder, stores, recipe)
    write_json(make_verdict(recipe, verdict), products.verdict)
    inputs = resolve_inputs("shop", root, key).model_copy(update={"build_key": key})
    write_json(inputs, folder / "inputs.json")
    write_json(make_decision(), folder / "monitor" / "decision.json")
    write_parquet(products.table[["series_id", "month"]], folder / "features" / "known.parquet")
    release, bento, challenger_release = (folder / "package" / name for name in ["release", "bento", "challenger"])
    release.mkdir(parents=True)
    models = products.forecast.parent
    description = write_release(release, products.table, products.online, models, "numpy\n")
    challenger_release.mkdir()
    challenger_name = None
    if challenger:
        shutil.rmtree(models / "challenger")
        other = make_products(folder / "other", stores, challenger)
        written = write_release(challenger_release, other.table, other.online, other.forecast.parent, "numpy\n")
        challenger_name = written.release
        shutil.move(other.forecast.parent, models / "challenger")
    shutil.copytree(release, bento / "src" / "release")
    (bento / "bento.yaml").write_text(f"name: brewcast\nversion: {description.release}\n")
    (release.parent / ".release.metadata").write_text("{}")
    package = {
        "release": description.release,
        "files": folder_hashes(release),
        "smoke": {"stores_equal": stores, "refused": {}},
        "challenger": challenger_name,
        "challenger_files": folder_hashes(challenger_release),
        "bento": {"tag": f"brewcast:{description.release}", "files": bento_hashes(bento)},
        "made_from": {path.name: sha256(path) for path in (products.forecast, products.verdict)},
    }
    write_json(package, release.parent / "package.json")
    return folder


def write_settings(root: Path) -> None:
    "Make a folder a project with the source `shop`."
    (root / "env.yaml").write_text("source: shop\ndata: data/shop\n")
    for name in ("pipeline.yaml", "settings.ini"):
        shutil.copy(ROOT / name, root / name)
