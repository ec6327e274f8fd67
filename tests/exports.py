"Toy sale lines as companies export them, and where the shared inputs are."

from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

SHARED = ROOT.parent / "shared"


CASES = sorted(path.name.removesuffix(".tar.xz") for path in (SHARED / "cases").glob("*.tar.xz"))


needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not there")


LINES = pd.DataFrame(
    [
        {
            "day": day,
            "shop": shop,
            "item": item,
            "pieces": (day.day * 7 + len(item) + len(shop)) % 9 + 1,
            "price": price,
        }
        for day in pd.date_range("2024-01-01", "2024-06-30")
        for shop in ("North", "Southend")
        for item, price in (("Green tea", 2.5), ("Café noir", 3.25))
    ]
)


def write_lines(path: Path, names: dict[str, str], date_format: str = "%Y-%m-%d", **options) -> None:
    "Write the toy sale lines with other names of columns."
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = LINES.assign(day=LINES.day.dt.strftime(date_format))
    lines.rename(columns=names)[list(names.values())].to_csv(path, index=False, **options)


PLAIN = {name: name for name in LINES}
