"""The description of the DAG is what pipeline.yaml, the notebooks and env.yaml say, for this and for another project."""

import json
import shutil

import pytest
import yaml
from conftest import ROOT

from brewcast.common.params import read_env, read_stages, upstream_of
from brewcast.targets.dag import PUBLISH, RESOLVE, read_dag


@pytest.fixture
def project(tmp_path):
    "The files that the description is derived from."
    shutil.copytree(ROOT / "nbs", tmp_path / "nbs")
    for name in ("pipeline.yaml", "env.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def change(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new))


def test_each_stage_reads_what_its_notebook_declares_and_what_resolve_gives():
    dag = read_dag(ROOT)
    stages = read_stages(ROOT, read_env(ROOT))
    assert [task.name for task in dag.tasks] == [RESOLVE, *stages, PUBLISH]
    for name, stage in stages.items():
        assert dag.task(name).upstream == [RESOLVE, *upstream_of(ROOT / stage.source)]
        assert dag.task(name).artifact == f"products/{{source}}/{name}"
        folders = {path.rpartition("/")[0] for path in stage.product.values()}
        assert folders == {dag.task(name).artifact.replace("{source}", "simulated")}


def test_settings_come_from_the_files(project):
    change(project / "env.yaml", "limit: 2  ", "limit: 5  ")
    change(project / "env.yaml", '"15 6 * * *"', '"0 3 * * MON"')
    change(project / "pipeline.yaml", 'train: {cpu: "2", memory: 4Gi}', 'train: {cpu: "8", memory: 32Gi}')
    dag = read_dag(project)
    assert (dag.retries.limit, dag.schedule.cron) == (5, "0 3 * * MON")
    assert (dag.task("train").cpu, dag.task("train").memory) == ("8", "32Gi")
    assert (dag.task("clean").cpu, dag.task("clean").memory) == ("1", "2Gi")


def test_a_cycle_is_refused_with_the_notebooks_to_correct(project):
    notebook = project / "nbs/data/11_clean.ipynb"
    content = json.loads(notebook.read_text())
    (cell,) = [cell for cell in content["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    cell["source"] = "".join(cell["source"]).replace('upstream = ["ingest"]', 'upstream = ["ingest", "package"]')
    assert "package" in cell["source"]
    notebook.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="circular: .*clean"):
        read_dag(project)


def test_products_in_two_folders_are_no_artifact(project):
    change(project / "pipeline.yaml", "products/{{source}}/clean/clean.json", "products/{{source}}/other/clean.json")
    with pytest.raises(ValueError, match="clean: its products are in .*not in one folder"):
        read_dag(project)


def test_resources_of_a_stage_that_does_not_exist_are_refused(project):
    change(project / "pipeline.yaml", "    train: {cpu", "    trian: {cpu")
    with pytest.raises(ValueError, match="trian.*did you mean train"):
        read_dag(project)


def test_without_declared_resources_every_task_has_some(project):
    pipeline = yaml.safe_load((project / "pipeline.yaml").read_text())
    del pipeline["executor"]["resources"]
    (project / "pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    assert {(task.cpu, task.memory) for task in read_dag(project).tasks} == {("1", "2Gi")}


def test_resources_have_the_fields_that_kubernetes_knows(project):
    pipeline = yaml.safe_load((project / "pipeline.yaml").read_text())
    pipeline["executor"]["resources"]["train"] = {"cpus": "2"}
    (project / "pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    with pytest.raises(ValueError, match="executor: resources: train: cpus"):
        read_dag(project)
