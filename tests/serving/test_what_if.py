"Another plan for next month: the release's forecasts, in words, in a picture and in a panel."

import hashlib
import json
import subprocess
import sys
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
from pictures import picture_problems

from brewcast.common.core import write_json
from brewcast.common.parameter_types import Calendar
from brewcast.common.records import ModelDescription, Recipe
from brewcast.delivery.forecast import forecast_next_month
from brewcast.delivery.package import write_release
from brewcast.model.features import feature_tables
from brewcast.model.recipes import FEATURES, build_model, model_bytes
from brewcast.serving.what_if import (
    PROMOTION_SHARES,
    open_release,
    planned_promotion_shares,
    plot_what_if,
    what_if,
    what_if_panel,
    what_if_text,
)

CALENDAR = Calendar(unit="day", hemisphere="north", countries={"USA": "US"}, open_within_days=10, decided_after_days=2)
CUTOFF = pd.Timestamp("2025-12-31")
FACTORS = {"factors": {f"S{i}": [0.9 - i / 100, 1.2 + i / 100] for i in range(6)}, "young": [0.8, 1.5]}


def promoted_months(next_share: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three years of six stores that sell 50 % more on a promotion day, and their plan including next month."""
    rng, rows, plan = np.random.default_rng(5), [], []
    for store in [f"S{i}" for i in range(6)]:
        for month in pd.date_range("2023-01-01", "2026-01-01", freq="MS"):
            share, days = rng.uniform(0, 0.8), month.days_in_month
            planned = next_share if month > CUTOFF else share
            plan.append((store, month, month - pd.Timedelta(days=9), 2.0, planned, days))
            if month <= CUTOFF:
                sold = 100 * days * (1 + 0.5 * share) * rng.uniform(0.98, 1.02)
                end = month + pd.offsets.MonthEnd(0)
                rows.append((store, store, month, "USA", "Reno", sold, 2.0, "Hot", True, False, 0.28, "winter"))
                rows[-1] += (days, share, 9, month, end)
    names = ["series_id", "store_id", "month", "country", "city", "quantity_sold", "price", "weather", "promotion"]
    names += ["holiday", "is_weekend", "season", "trading_days", "promotion_share", "lines", "first_date", "last_date"]
    columns = ["store_id", "month", "published", "price", "promotion_share", "trading_days"]
    return pd.DataFrame(rows, columns=names), pd.DataFrame(plan, columns=columns)


def feature_rows(next_share: float) -> pd.DataFrame:
    """Every feature of every cutoff, with the actual sales."""
    months, plan = promoted_months(next_share)
    tables = feature_tables(months, plan, CALENDAR)
    keys = ["series_id", "event_timestamp", "created"]
    rows = tables["history"].merge(tables["ahead"], on=keys).merge(tables["profile"], on=keys)
    rows["cutoff"] = rows["event_timestamp"].dt.tz_localize(None)
    outcomes = months.assign(cutoff=months["month"] - pd.Timedelta(days=1)).rename(columns={"quantity_sold": "actual"})
    return rows.merge(outcomes[["series_id", "cutoff", "actual"]], on=["series_id", "cutoff"], how="left")


def publish(root, recipe: Recipe) -> tuple:
    """Publish a release for the source `toy`. Returns the path of a product and the forecast."""
    rows = feature_rows(0.3)
    past, online = rows[rows["actual"].notna()], rows[rows["cutoff"] == CUTOFF]
    online = online.sort_values("series_id", ignore_index=True)
    model = build_model(recipe).fit(past[FEATURES], past["actual"])
    forecast = forecast_next_month(model, online, CUTOFF, FACTORS, recipe)
    models, folder = root / "models", root / "state/toy/releases/one"
    for path in (models, folder):
        path.mkdir(parents=True)
    (models / "model.joblib").write_bytes(model_bytes(model))
    write_json(FACTORS, models / "intervals.json")
    digest = hashlib.sha256((models / "model.joblib").read_bytes()).hexdigest()
    description = ModelDescription(recipe=recipe, train_through="2025-12-01", model_sha256=digest)
    write_json(description, models / "recipe.json")
    write_release(folder, forecast, online, models, "")
    (root / "state/toy/current").symlink_to("releases/one")
    return root / "products/toy/clean/store_month.parquet", forecast


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A source with promotions, and a forest that serves it."""
    root = tmp_path_factory.mktemp("served")
    product, forecast = publish(root, Recipe(name="forest", params={"n_estimators": 30, "weight": 1.0}))
    model = joblib.load(root / "models/model.joblib")
    return SimpleNamespace(root=root, product=product, forecast=forecast, release=open_release(product), model=model)


def test_as_planned_is_the_forecast_that_is_served(served):
    stores = served.forecast["store_id"].tolist()
    answers = pd.DataFrame(what_if(served.release, stores))
    for name in ("forecast", "lower", "upper"):
        assert answers[name].tolist() == pytest.approx(served.forecast[name].tolist(), rel=1e-6)
    share = planned_promotion_shares(served.release)["S1"]
    requested, planned = (what_if(served.release, ["S1"], s)[0]["forecast"] for s in (share, None))
    assert requested == pytest.approx(planned, rel=1e-6)


def test_another_plan_gives_the_forecast_of_the_features_under_that_plan(served):
    # given the features that are made from the other plan
    online = feature_rows(0.75).query("cutoff == @CUTOFF").sort_values("series_id")
    forecast = served.model.predict(online[FEATURES])
    # when the release forecasts that plan, then the forecasts are the same
    answers = what_if(served.release, online["series_id"].tolist(), 0.75)
    assert [answer["forecast"] for answer in answers] == pytest.approx(forecast.tolist(), rel=1e-6)
    upper = [FACTORS["factors"][answer["store_id"]][1] * answer["forecast"] for answer in answers]
    assert [answer["upper"] for answer in answers] == pytest.approx(upper)


def test_promotions_raise_the_forecast_of_stores_that_sell_more_on_them(served):
    stores, before = served.forecast["store_id"].tolist(), served.release.numbers.copy()
    none, every = (pd.DataFrame(what_if(served.release, stores, share)) for share in (0.0, 1.0))
    assert (every["forecast"] > 1.2 * none["forecast"]).all()  # 50 % more on a promotion day
    np.testing.assert_array_equal(served.release.numbers, before)  # the release's rows are not changed


def test_the_words_name_both_plans_and_the_picture_has_both_forecasts(served):
    # given a store's past, and its forecasts under two plans
    months, _ = promoted_months(0.3)
    past = months[months["store_id"] == "S1"].set_index("month")["quantity_sold"].tail(13)
    planned, requested = what_if(served.release, ["S1"])[0], what_if(served.release, ["S1"], 1.0)[0]
    # when they are put into words and drawn
    text = what_if_text(planned, requested, (0.3, 1.0, 0.8), "pieces")
    figure = plot_what_if(past, planned, requested, "every day", "pieces")
    names = [label.get_text() for label in figure.axes[0].texts]
    # then both plans are named
    assert text[0].startswith("S1, January 2026: ") and text[0].endswith("% compared with the plan")
    assert text[2].startswith("As planned, with 30%: ") and "no month has had more than 80%" in text[3]
    assert [name.split(":")[0] for name in names] == ["as planned", "every day"]
    assert figure.get_suptitle().startswith("With a promotion every day, S1 sells") and picture_problems(figure) == []


@pytest.mark.parametrize("plan_name", PROMOTION_SHARES)
@pytest.mark.parametrize("store_id", ["S1", "WWWWWWWWWW WWWWWWWWWWWWWWWWW WWWWWWWWWWWWWWWWWWWWWW 12345678"])
@pytest.mark.parametrize("sold", [[], [0.0], [8e6] * 13], ids=["no past", "a month without sales", "13 months"])
def test_the_picture_of_every_plan_can_be_read(plan_name, store_id, sold):
    past = pd.Series(sold, pd.date_range("2024-12-01", periods=len(sold), freq="MS"), dtype=float)
    planned = {"store_id": store_id, "month": "2026-01-01", "forecast": 8.1e6, "lower": 7e6, "upper": 9e6}
    for requested in (planned, planned | {"forecast": 0.0, "lower": 0.0, "upper": 3.0}):
        assert picture_problems(plot_what_if(past, planned, requested, plan_name, "a unit with a long name " * 4)) == []


def test_without_a_panel_the_cell_shows_the_reason(served, tmp_path, monkeypatch):
    months, _ = promoted_months(0.3)
    # given no JupyterLab: no release is opened
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert "Open this notebook in JupyterLab" in what_if_panel(tmp_path / "is/not/there/x", months, "cups").data
    # given JupyterLab and nothing published
    monkeypatch.setenv("JPY_SESSION_NAME", "nbs/data/12_explore.ipynb")
    product = tmp_path / "products/toy/clean/store_month.parquet"
    assert "`make run SOURCE=toy`" in what_if_panel(product, months, "cups").data
    # given a recipe that uses no plan
    product, _ = publish(tmp_path, Recipe(name="seasonal", params={}))
    assert (
        "The share of promotion days cannot be changed here: seasonal does not look at it"
        in what_if_panel(product, months, "cups").data
    )
    # given a release that was changed: it is refused
    (tmp_path / "state/toy/current/rows.npz").write_bytes(b"x")
    with pytest.raises(ValueError, match="rows.npz is missing or was changed"):
        what_if_panel(product, months, "cups")


def test_the_panels_widgets_change_text_and_picture(served, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "nbs/data/12_explore.ipynb")
    store, plan, caption, picture = what_if_panel(served.product, promoted_months(0.3)[0], "cups").children
    before = picture.value
    assert "S0, January 2026" in caption.value and ", as planned" in caption.value
    store.value, plan.label = "S3", "every day"
    assert "S3, January 2026" in caption.value and "compared with the plan" in caption.value and picture.value != before


def test_a_store_that_is_typed_clears_the_old_answer_at_once(served, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "nbs/data/12_explore.ipynb")
    store, plan, caption, picture = what_if_panel(served.product, promoted_months(0.3)[0], "cups").children
    shown = []  # what a user sees, in this order
    caption.observe(lambda change: shown.append((change.new, bool(picture.value))), "value")
    # when another store or another plan is chosen, then there is nothing until the new answer is there
    store.value, plan.label = "S3", "every day"
    assert [text for text, _ in shown[::2]] == ["", ""] and all("S3, January 2026" in text for text, _ in shown[1::2])
    # when the text is no store, as while the user types or for an unknown one, then no answer stays
    for typed, message in [
        ("S", "No store is called S"),
        ("S77", "No forecast of S77"),
        ("<i>", "&lt;i&gt;"),
        ("", ""),
    ]:
        store.value = typed
        assert message in caption.value and "cups" not in caption.value, typed
        assert picture.value == b"" and picture.layout.visibility == "hidden"
    # and each text reaches this process: with `ensure_option`, the page would keep all that are no option
    assert not store.ensure_option and store.continuous_update
    store.value, plan.label = "S4", "as planned"
    assert plan.label == "as planned" and ", as planned" in caption.value
    assert "S4, January 2026" in caption.value and picture.value and picture.layout.visibility == "visible"


@pytest.mark.parametrize("module", ["brewcast.serving.what_if", "brewcast.data.explore"])
def test_importing_the_module_does_not_import_what_only_the_panel_needs(module):
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert not {
        "ipywidgets",
        "ipykernel",
        "bentoml",
        "sklearn",
        "brewcast.serving.app",
        "brewcast.model.features",
    } & set(loaded)
