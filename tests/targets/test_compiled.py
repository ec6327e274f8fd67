"The compiled files under deploy/ are in step with the project, and the hash of deploy/ covers every file."

import shutil

from conftest import ROOT

from brewcast.targets.compiled import CHECKED, compiled_files, deploy_hash, stale_files, write_compiled


def test_compiled_files_are_in_step_with_the_project():
    assert not stale_files(ROOT), "run `make compile`, and commit what it writes"


def test_a_changed_file_is_named_and_compiled_again_to_the_same_bytes(tmp_path):
    for folder in ["deploy", ".github"]:
        shutil.copytree(ROOT / folder, tmp_path / folder)
    name = "deploy/chart/files/rules.yml"
    contents = {path: text for path, text in compiled_files(ROOT).items() if path.startswith("deploy/")}
    original = (tmp_path / name).read_bytes()
    (tmp_path / name).write_text("groups: []\n")
    assert stale_files(tmp_path, contents) == [name]
    assert write_compiled(tmp_path, contents) == [name]
    assert (tmp_path / name).read_bytes() == original
    assert write_compiled(tmp_path, contents) == []


def test_every_file_but_the_record_of_the_checks_counts_in_the_hash(tmp_path):
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    before = deploy_hash(tmp_path)
    (tmp_path / "deploy" / CHECKED).write_text("{}")
    assert deploy_hash(tmp_path) == before
    in_deploy = [name for name in compiled_files(ROOT) if name.startswith("deploy/")]
    for name in [*in_deploy, "deploy/grafana/dashboard.json"]:
        path = tmp_path / name
        original = path.read_bytes()
        path.write_bytes(original + b" ")
        assert deploy_hash(tmp_path) != before, name
        path.write_bytes(original)
    assert deploy_hash(tmp_path) == before
