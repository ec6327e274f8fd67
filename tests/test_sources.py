"A source of one's own, exactly as the README says, and the real ones that come along."

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


def block(language: str, holding: str) -> str:
    "The README's fenced block of a language that holds a text."
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    return next(text for name, text in blocks if name == language and holding in text)


def write_tea(folder: Path) -> int:
    "Two years of a tea shop's sales with the README's header, three lines of them bad; how many lines there are."
    folder.mkdir()
    header, example = block("", "shop,day,item").strip().splitlines()
    assert example.count(",") == header.count(",")
    generator, written = np.random.default_rng(0), 0
    for year in (2024, 2025):
        days = pd.date_range(f"{year}-01-01", f"{year}-12-31")
        lines = pd.MultiIndex.from_product([["North", "South", "Quai d'Orsay"], days, ["Green", "Black"]]).to_frame(
            index=False
        )
        season = 1 + 0.4 * np.cos(2 * np.pi * (days.month - 1) / 12)
        pieces = generator.poisson(30 * np.tile(np.repeat(season, 2), 3)) + 1
        rows = [f"{s},{d:%Y-%m-%d},{item},{n},2.50" for (s, d, item), n in zip(lines.to_numpy(), pieces, strict=True)]
        if year == 2025:
            rows += ["North,2025-02-30,Green,3,2.50", "North,2025-03-01,Green,3.5,2.50", "North,2025-03-01,Green,3"]
        (folder / f"sales_{year}.csv").write_text("\n".join([header, *rows]) + "\n")
        written += len(rows)
    return written


def products(project, source: str, name: str):
    return json.loads((project.root / "products" / source / name).read_text())


def test_a_stranger_adds_a_source_as_the_readme_says(project, tmp_path):
    # given the two files of the README, and data that looks as it says
    lines = write_tea(tmp_path / "my tea")
    (project.root / "sql" / "tea.sql").write_text(block("sql", "pieces AS quantity_sold"))
    (project.root / "env.tea.yaml").write_text(block("yaml", "source: tea"))
    before = sorted((project.root / "products").glob("*")) if (project.root / "products").exists() else []
    # when it is run with the README's command
    told = project.run(f"make run SOURCE=tea DATA='{tmp_path / 'my tea'}'")
    # then it is forecast and published, what was bad is set aside with its line, and no other source is touched
    dataset, verdict = (
        products(project, "tea", "ingest/dataset.json"),
        products(project, "tea", "evaluate/verdict.json"),
    )
    assert dataset["rows_read"] == lines == dataset["rows_in"] + dataset["rows_set_aside"]
    aside = pd.read_parquet(project.root / "products/tea/ingest/quarantine.parquet")
    assert set(aside.file) == {"sales_2025.csv"} and sorted(aside.line) == [2192, 2193, 2194]
    assert len(verdict["cutoffs"]) == 12 and "3 stores" in told.out
    forecast = pd.read_parquet(project.root / "products/tea/forecast/forecast.parquet")
    assert sorted(forecast.store_id) == ["North", "Quai d'Orsay", "South"]
    assert (project.root / "state/tea/ledger.db").exists()
    after = sorted(path for path in (project.root / "products").glob("*") if path.name != "tea")
    assert after == before
    assert "nothing to do" in project.run("make run SOURCE=tea").all


def test_an_unknown_source_is_told_which_there_are(project):
    told = project.run("make run SOURCE=walmat", fails=True)
    assert "walmat" in told.all and "walmart" in told.all and "simulated" in told.all


@pytest.mark.parametrize("source", ["walmart", "maven_market", "dominicks_oj"])
def test_real_data_goes_all_the_way(project, source):
    if not (SHARED / source).exists():
        pytest.skip(f"no data: {SHARED / source} is absent")
    told = project.run(f"make run SOURCE={source} DATA='{SHARED / source}'")
    dataset, verdict = (
        products(project, source, "ingest/dataset.json"),
        products(project, source, "evaluate/verdict.json"),
    )
    assert dataset["rows_read"] == dataset["rows_in"] + dataset["rows_set_aside"]
    # the verdict agrees with the errors
    errors, gain = verdict["errors"], verdict["figures"]["gain"]
    assert {"candidate", "champion", "last_month", "mean_of_3", "same_month_last_year", "seasonal"} <= set(errors)
    assert len({error["n"] for error in errors.values()}) == 1
    assert gain == pytest.approx(1 - errors["candidate"]["wape"] / errors["champion"]["wape"])
    assert verdict["promoted"] == (verdict["recipe"] == verdict["candidate"] != verdict["champion"])
    assert not verdict["promoted"] or gain > 0
    assert f"verdict   {verdict['verdict']}" in told.out
