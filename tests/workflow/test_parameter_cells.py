"The parameters cells are those of env.yaml, and `make export` writes them without touching anything else."

import ast
import json
import shutil

import pytest
from conftest import ROOT

from brewcast.common.params import declared_parameters, read_env, read_stages
from brewcast.workflow.parameter_cells import (
    cell_source,
    parameter_cells,
    python_literal,
    write_parameter_cells,
)

STAGES = read_stages(ROOT, read_env(ROOT))


def tagged(path) -> str:
    cells = [c for c in json.loads(path.read_text())["cells"] if "parameters" in c["metadata"].get("tags", [])]
    return "".join(cells[0]["source"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_cell_is_what_export_writes_and_holds_the_values_with_their_reasons(stage):
    notebook = STAGES[stage].source
    source = parameter_cells(ROOT)[notebook]
    assert tagged(ROOT / notebook) == source, "run `make export`"
    # every parameter but the source's name has a comment, and no comment is cut
    lines = source.splitlines()
    for name in set(STAGES[stage].params) - {"source"}:
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{name} = "))
        assert lines[at - 1].startswith("# "), name
    assert "null" not in "".join(line for line in lines if line.strip().startswith("#"))


@pytest.fixture
def project(tmp_path):
    for name in ("env.yaml", "pipeline.yaml", "settings.ini"):
        shutil.copy2(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "nbs", tmp_path / "nbs")
    return tmp_path


def test_a_changed_value_or_reason_is_written_to_the_cells_that_show_it_and_nowhere_else(project):
    assert write_parameter_cells(project) == []
    before = {path: path.read_text() for path in project.rglob("*.ipynb")}
    # given another value, and another reason, of a parameter that two stages take
    env = project / "env.yaml"
    text = env.read_text()
    assert text.count("judged: 12 ") == 1
    line = next(line for line in text.splitlines() if line.startswith("judged: 12 "))
    env.write_text(text.replace(line, "judged: 24  # every month twice"))
    # when it is exported
    changed = write_parameter_cells(project)
    # then both cells have it, `upstream` stays, and no other cell or notebook has changed
    assert changed == ["nbs/model/21_train.ipynb", "nbs/model/22_evaluate.ipynb"]
    for path, old in before.items():
        name = path.relative_to(project).as_posix()
        if name not in changed:
            assert path.read_text() == old
            continue
        assert declared_parameters(path)["judged"] == 24 and "# every month twice\njudged = 24" in tagged(path)
        assert declared_parameters(path)["upstream"] == declared_parameters(ROOT / name)["upstream"]
        others = [c for c in json.loads(path.read_text())["cells"] if "parameters" not in c["metadata"].get("tags", [])]
        assert others == [c for c in json.loads(old)["cells"] if "parameters" not in c["metadata"].get("tags", [])]
    assert write_parameter_cells(project) == []


def test_values_come_back_as_they_were_with_comments_that_hold_anything():
    values = {
        "text": 'a "quoted" text # with a hash',
        "words": [f"word {i}" for i in range(30)],
        "nothing": None,
        "empty": {},
        "group": {"on": True, "rate": 0.1, "countries": {"Côte d'Ivoire": "CI", "*": None}},
    }
    comments = {"group": {"": "a group", "rate": "share; null: none"}, "text": {"": "a # in a comment"}}
    source = cell_source(["ingest"], values, comments)
    assigned = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(source).body}
    assert assigned == {"upstream": ["ingest"], "product": None, **values}
    assert '    # share; None: none\n    "rate": 0.1,' in source
    assert max(map(len, source.splitlines())) <= 120
    assert python_literal([]) == "[]" and python_literal(1e-05) == "1e-05"
