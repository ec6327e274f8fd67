"A source of your own, added exactly as the README says, and the real sources of the repository."

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from exports import SHARED

from brewcast.common.records import Verdict

ROOT = Path(__file__).resolve().parent.parent


def readme_block(language: str, text: str) -> str:
    "The README's code block in a language that contains a text."
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    return next(content for name, content in blocks if name == language and text in content)


def write_tea_sales(folder: Path) -> int:
    "Write two years of a tea shop's sales with the README's header, three lines of them bad; returns the number of lines."
    folder.mkdir()
    header, example = readme_block("", "shop,day,item").strip().splitlines()
    assert example.count(",") == header.count(",")
    rng = np.random.default_rng(0)
    n_lines = 0
    for year in (2024, 2025):
        days = pd.date_range(f"{year}-01-01", f"{year}-12-31")
        stores = ["North", "South", "Quai d'Orsay"]
        lines = pd.MultiIndex.from_product([stores, days, ["Green", "Black"]]).to_frame(index=False)
        season = 1 + 0.4 * np.cos(2 * np.pi * (days.month - 1) / 12)
        pieces = rng.poisson(30 * np.tile(np.repeat(season, 2), 3)) + 1
        rows = [
            f"{store},{day:%Y-%m-%d},{item},{n},2.50"
            for (store, day, item), n in zip(lines.to_numpy(), pieces, strict=True)
        ]
        if year == 2025:
            rows += ["North,2025-02-30,Green,3,2.50", "North,2025-03-01,Green,3.5,2.50", "North,2025-03-01,Green,3"]
        (folder / f"sales_{year}.csv").write_text("\n".join([header, *rows]) + "\n")
        n_lines += len(rows)
    return n_lines


def read_product(project, source: str, name: str):
    return json.loads((project.root / "products" / source / name).read_text())


def read_verdict(project, source: str) -> Verdict:
    return Verdict.read(project.root / "products" / source / "evaluate/verdict.json")


def test_a_new_source_is_added_as_the_readme_says(project, tmp_path):
    # given the two files of the README, and data as it describes
    n_lines = write_tea_sales(tmp_path / "my tea")
    (project.root / "sql" / "tea.sql").write_text(readme_block("sql", "pieces AS quantity_sold"))
    (project.root / "env.tea.yaml").write_text(readme_block("yaml", "source: tea"))
    before = sorted((project.root / "products").glob("*")) if (project.root / "products").exists() else []
    # when it is run with the README's command
    result = project.run(f"make run SOURCE=tea DATA='{tmp_path / 'my tea'}'")
    # then it is forecast and published, bad lines are in quarantine, and no other source has changed
    dataset = read_product(project, "tea", "ingest/dataset.json")
    verdict = read_verdict(project, "tea")
    assert dataset["rows_read"] == n_lines == dataset["rows_in"] + dataset["rows_set_aside"]
    quarantine = pd.read_parquet(project.root / "products/tea/ingest/quarantine.parquet")
    assert set(quarantine.file) == {"sales_2025.csv"} and sorted(quarantine.line) == [2192, 2193, 2194]
    assert len(verdict.cutoffs) == 12 and "3 stores" in result.out
    forecast = pd.read_parquet(project.root / "products/tea/forecast/forecast.parquet")
    assert sorted(forecast.store_id) == ["North", "Quai d'Orsay", "South"]
    assert (project.root / "state/tea/ledger.db").exists()
    after = sorted(path for path in (project.root / "products").glob("*") if path.name != "tea")
    assert after == before
    assert "nothing to do" in project.run("make run SOURCE=tea").all


def test_the_error_for_an_unknown_source_names_the_known_ones(project):
    result = project.run("make run SOURCE=walmat", fails=True)
    assert "walmat" in result.all and "walmart" in result.all and "simulated" in result.all


@pytest.mark.parametrize("source", ["walmart", "maven_market", "dominicks_oj"])
def test_real_data_runs_from_files_to_forecast(project, source):
    data = SHARED / "data" / source
    if not data.exists():
        pytest.skip(f"no data: {data} is missing")
    result = project.run(f"make run SOURCE={source} DATA='{data}'")
    dataset = read_product(project, source, "ingest/dataset.json")
    verdict = read_verdict(project, source)
    assert dataset["rows_read"] == dataset["rows_in"] + dataset["rows_set_aside"]
    # the verdict agrees with the errors
    errors, gain = verdict.errors, verdict.figures.gain
    assert {"candidate", "champion", "last_month", "mean_of_3", "same_month_last_year", "seasonal"} <= set(errors)
    assert len({error.n for error in errors.values()}) == 1
    assert gain == pytest.approx(1 - errors["candidate"].wape / errors["champion"].wape)
    assert verdict.promoted == (verdict.recipe == verdict.candidate != verdict.champion)
    assert not verdict.promoted or gain > 0
    assert f"verdict   {verdict.verdict}" in result.out
