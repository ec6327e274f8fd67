"""After a kill, a failure or a second build at the same time, the next run leaves the same bytes as an undisturbed run.

`make test` runs the short form, on the four stages of the toy project. `make faults` runs all of it, on the whole
pipeline with little data.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import SMALL_PARAMETERS, commands, project_environment, small_project
from test_journey import STAGES, data_products, kill_build, kill_publish, serving_state
from toy import ENV, pause_stage, replace_in_file, resume_stages, start_build, started_stages
from toy import STAGES as SMALL_STAGES
from waits import wait_until

FULL = os.environ.get("BREWCAST_FAULTS") == "full"


def contents(root: Path) -> dict[str, bytes]:
    "The bytes of the products of the toy stages."
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted((root / "products").rglob("*.txt"))}


@pytest.fixture
def small_disk(toy):
    "Put the products on a disk of one megabyte, and give a function that fills it up to some free bytes."
    copy, products = toy / "copy", toy / "products"
    products.rename(copy)
    products.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", products], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    shutil.copytree(copy, products, dirs_exist_ok=True)
    shutil.rmtree(copy)

    def fill(free: int) -> None:
        disk = os.statvfs(products)
        (products / "filler").write_bytes(b"\0" * max(disk.f_bavail * disk.f_frsize - free, 0))

    yield fill
    subprocess.run(["umount", "-l", products], check=True)


@pytest.mark.parametrize("kilobytes", [0, 8, 16, 24, 40, 64] if FULL else [0, 24])
def test_a_full_disk_stops_a_build_with_a_reason_and_loses_no_product(toy, brewcast, small_disk, kilobytes):
    before = contents(toy)
    # given too little space for the next build
    (toy / "env.yaml").write_text(ENV.replace("12]", "6]").replace("wins: 7", "wins: 8"))
    small_disk(kilobytes * 1024)
    assert "No space left on device" in brewcast("build", fails=True).err
    # then no product is incomplete
    now = contents(toy)
    assert {name for name in now if "failed" not in name} == set(before)
    assert all(now[name] in (before[name], b"[1, 6, 1, 6]", b"8") for name in before)
    # and with space again, the next builds make the products of the new parameters, and of the old ones
    (toy / "products/filler").unlink()
    brewcast("build")
    assert contents(toy)["products/near/clean/out.txt"] == b"[1, 6, 1, 6]"
    (toy / "env.yaml").write_text(ENV)
    brewcast("build")
    assert contents(toy) == before


def test_two_builds_at_once_do_each_stage_once(toy):
    (toy / "env.yaml").write_text(ENV.replace("12]", "6]"))
    pause_stage(toy, "judge")
    logs = [toy / "one.log", toy / "other.log"]
    both = [start_build(toy, log) for log in logs]

    def output() -> str:
        return "".join(log.read_text() for log in logs)

    # the second build waits while the first stands in its last stage
    wait_until(lambda: "waiting for it" in output(), "waiting for the lock", *both)
    resume_stages(toy)
    assert [process.wait(300) for process in both] == [0, 0]
    assert sorted(started_stages(output())) == ["clean", "judge"]
    assert output().count("waiting for it") == 1


@pytest.mark.parametrize("stage", SMALL_STAGES)
def test_after_a_kill_with_other_parameters_the_old_parameters_give_the_old_bytes(toy, brewcast, stage):
    before = contents(toy)
    # given a build of changed code and with other parameters, killed while a stage writes
    (toy / "env.yaml").write_text(ENV.replace("12]", "6]").replace("wins: 7", "wins: 8"))
    replace_in_file(toy / "brewcast/common/areas.py", "return x", "return x * 1")  # every stage imports it
    pause_stage(toy, stage)
    process = start_build(toy)
    wait_until(lambda: (toy / f"products/near/{stage}/out.txt").read_text() == "half", f"in {stage}", process)
    os.killpg(process.pid, signal.SIGKILL)  # the build has a session of its own
    process.wait(120)
    resume_stages(toy)
    # when code and parameters are the old ones again, then every byte is, too
    (toy / "env.yaml").write_text(ENV)
    replace_in_file(toy / "brewcast/common/areas.py", "return x * 1", "return x")
    started = started_stages(brewcast("build").err)
    assert stage not in started, "its old products are back"
    assert stage != "judge" or "clean" in started  # clean was built with the other parameters before the kill
    assert {name: content for name, content in contents(toy).items() if "failed" not in name} == before


if FULL:

    @pytest.fixture(scope="module")
    def undisturbed(published):
        "The products and the serving state after a run without faults."
        return data_products(published.root), serving_state(published.root)

    @pytest.fixture
    def fresh(tmp_path, undisturbed):
        "A copy of the project before its first run."
        root = small_project(tmp_path / "brewcast")
        return root, commands(root)

    def assert_same(root: Path, undisturbed) -> None:
        expected, state = undisturbed
        products = data_products(root)
        assert products.keys() == expected.keys()
        assert [name for name in products if products[name] != expected[name]] == []
        assert serving_state(root) == state

    @pytest.mark.parametrize("stage", STAGES)
    def test_killed_in_a_stage(fresh, undisturbed, stage):
        root, run = fresh
        kill_build(root, stage, {})
        run("make run")
        assert_same(root, undisturbed)

    @pytest.mark.parametrize(
        "step",
        [
            "store_folder",
            "archive_forecast",
            "ensure_registered",
            "write_publish_entry",
            "append_entry",
            "update_links",
            "sync_aliases",
        ],
    )
    def test_killed_in_publish(fresh, undisturbed, step):
        root, run = fresh
        run("make build")
        kill_publish(run, step)
        run("make run")
        assert_same(root, undisturbed)

    @pytest.mark.parametrize("megabytes", [1, 2, 4, 8])
    def test_a_full_disk(fresh, undisturbed, megabytes):
        root, run = fresh
        (root / "products").mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", root / "products"]
        subprocess.run(mount, check=True)
        try:
            assert "No space left on device" in run("make run", fails=True).err
            subprocess.run(["mount", "-o", "remount,size=500m", root / "products"], check=True)
            run("make run")
            assert_same(root, undisturbed)
        finally:
            subprocess.run(["umount", "-l", root / "products"], check=True)

    def test_two_tools_build_at_once(fresh, undisturbed):
        root, run = fresh
        shells = ["make build", ". ./activate && ploomber build"]
        both = [
            subprocess.Popen(["bash", "-c", command], cwd=root, env=project_environment(root)) for command in shells
        ]
        assert [process.wait(600) for process in both] == [0, 0]
        run("make run")
        assert_same(root, undisturbed)

    def test_a_parameter_changed_while_a_killed_build_is_unfinished_and_changed_back(fresh, undisturbed):
        root, run = fresh
        trees = f"n_estimators: {SMALL_PARAMETERS['n_estimators']}"
        replace_in_file(root / "env.yaml", trees, "n_estimators: 7")
        kill_build(root, "evaluate", {})
        replace_in_file(root / "env.yaml", "n_estimators: 7", trees)
        run("make run")
        assert_same(root, undisturbed)

    def test_a_parameter_changed_and_changed_back(fresh, undisturbed):
        root, run = fresh
        run("make build train.n_estimators=7")
        run("make run")
        assert_same(root, undisturbed)
