"The small real project by kfp, each task in a folder of its own: the same products, byte for byte, as by `brewcast run`."

import shutil
import subprocess

import pytest
from conftest import ROOT, project_environment, small_project
from step_folders import product_hashes

from brewcast.targets.compiled import DAG_FILE, dag_text

pytestmark = pytest.mark.timeout(3600)
SOURCE = "simulated"


def test_kfp_ends_in_the_products_and_the_release_of_a_run(published, tmp_path):
    # given the same project without products and state
    root = small_project(tmp_path / "project")
    assert (root / DAG_FILE).read_text() == dag_text(root)
    # when kfp runs its pipeline
    command = [ROOT / ".venv-kubeflow/bin/python", ROOT / "deploy/kubeflow/pipeline.py", "run", "--project", root]
    done = subprocess.run(command, env=project_environment(root), capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    # then its artifacts are the products of `brewcast run`
    for artifact in root.glob("scratch/kubeflow/*/*/artifact"):
        shutil.copytree(artifact, root / "products" / SOURCE / artifact.parent.name)
    assert product_hashes(root) == product_hashes(published.root)
    # and the same release is published
    released = [
        sorted(path.name for path in (one / f"state/{SOURCE}/releases").iterdir()) for one in (root, published.root)
    ]
    assert released[0] == released[1]
    assert (root / f"state/{SOURCE}/current").resolve().name == (
        published.root / f"state/{SOURCE}/current"
    ).resolve().name
