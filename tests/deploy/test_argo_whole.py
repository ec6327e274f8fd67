"""The compiled WorkflowTemplate on the real stages, in folders and in containers: its products are those of `brewcast run`.

Slow: the small project is built three times, and the image of the stages once.
"""

import shutil

import pytest
import yaml
from argo_runner import ContainerPods, FolderPods, run_workflow
from built_images import remove_image
from step_folders import StepFolders, product_hashes

from brewcast.targets.argo import argo_yaml
from brewcast.targets.dag import read_dag
from brewcast.targets.images import build_stage_image

pytestmark = pytest.mark.timeout(5400)
STAGE = "argo-test-stage"  # no other image is replaced


@pytest.fixture(scope="module")
def template(published):
    return next(document for document in yaml.safe_load_all(argo_yaml(published.root)) if document)


@pytest.fixture(scope="module")
def stage(published):
    built = build_stage_image(published.root, name=STAGE)
    yield f"localhost/{built.name}"
    remove_image(built.name)


def check(attempts, pods, published, last, state):
    "All tasks have run once, in the DAG's order; the last one has the products of a run; the month is published."
    expected = [(task.name, 0) for task in read_dag(published.root).tasks]
    assert attempts == expected, pods.said[attempts[-1].task][-3000:]
    assert product_hashes(last, project=published.root) == product_hashes(published.root)
    assert (state / "simulated/current").exists()


def test_in_folders(template, published, tmp_path):
    folders = StepFolders(published.root, tmp_path / "work")
    pods = FolderPods(folders)
    attempts = run_workflow(template, pods, tmp_path)
    check(attempts, pods, published, folders.work / "tasks/publish", folders.volume)


def test_in_containers_of_the_stage_image(template, published, stage, tmp_path):
    # given volumes of the state, which is empty, and of the data
    claims = {"brewcast-state": tmp_path / "state", "brewcast-data": tmp_path / "data"}
    shutil.copytree(published.root / "data", claims["brewcast-data"])
    pods = ContainerPods(stage, tmp_path / "pods", claims)
    # when each task runs in a container: read-only, as nobody, without a network
    attempts = run_workflow(template, pods, tmp_path)
    check(attempts, pods, published, tmp_path / "pods/publish", claims["brewcast-state"])
