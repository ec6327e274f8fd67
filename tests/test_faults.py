"""What is killed, fails or meets another is healed by the next run: the same bytes, registry and ledger as undisturbed.

`make test` runs the short form, on four small stages; `make faults` runs all of it, on the whole pipeline with little data.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import FEWER, commands, project_environment, small_project
from test_journey import KILLED_IN_PUBLISH, STAGES, data_products, kill_build, serving_state
from toy import ENV, pause_stage, replace_in_file, resume_stages, start_build, started_stages
from toy import STAGES as SMALL_STAGES
from waits import wait_until

FULL = os.environ.get("BREWCAST_FAULTS") == "full"


def contents(root: Path) -> dict[str, bytes]:
    "What the small stages made, byte for byte."
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted((root / "products").rglob("*.txt"))}


@pytest.fixture
def small_disk(toy):
    "The products on a disk of their own, of one megabyte, and a function that leaves so many bytes of it free."
    kept, place = toy / "kept", toy / "products"
    place.rename(kept)
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    shutil.copytree(kept, place, dirs_exist_ok=True)
    shutil.rmtree(kept)

    def leave(free: int) -> None:
        disk = os.statvfs(place)
        (place / "filler").write_bytes(b"\0" * max(disk.f_bavail * disk.f_frsize - free, 0))

    yield leave
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("kilobytes", [0, 8, 16, 24, 40, 64] if FULL else [0, 24])
def test_a_full_disk_stops_a_build_with_a_reason_and_costs_nothing(toy, brewcast, small_disk, kilobytes):
    before = contents(toy)
    # given too little room for what is to be built
    (toy / "env.yaml").write_text(ENV.replace("12]", "6]").replace("wins: 7", "wins: 8"))
    small_disk(kilobytes * 1024)
    told = brewcast("build", fails=True).err
    assert "No space left on device" in told
    # then no product is half of one
    now = contents(toy)
    assert {name for name in now if "failed" not in name} == set(before)
    assert all(now[name] in (before[name], b"[1, 6, 1, 6]", b"8") for name in before)
    # and with room again, the next build makes what it should, and what was, once it is asked for that
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
    told = lambda: "".join(log.read_text() for log in logs)  # noqa: E731
    wait_until(lambda: "waiting for it" in told(), "said to wait", *both)  # with the last stage to come
    resume_stages(toy)
    assert [process.wait(300) for process in both] == [0, 0]
    assert sorted(started_stages(told())) == ["clean", "judge"]
    assert told().count("waiting for it") == 1


@pytest.mark.parametrize("stage", SMALL_STAGES)
def test_killed_in_a_small_stage_with_other_parameters_the_old_ones_give_the_old_bytes(toy, brewcast, stage):
    before = contents(toy)
    # given a build that was killed half-way, of changed code and with other parameters
    (toy / "env.yaml").write_text(ENV.replace("12]", "6]").replace("wins: 7", "wins: 8"))
    replace_in_file(toy / "brewcast/common/areas.py", "return x", "return x * 1")  # which every stage stands on
    pause_stage(toy, stage)
    process = start_build(toy)
    wait_until(lambda: (toy / f"products/near/{stage}/out.txt").read_text() == "half", f"in {stage}", process)
    os.killpg(process.pid, signal.SIGKILL)  # its own session
    process.wait(120)
    resume_stages(toy)
    # when code and parameters are the old ones again, then so is every byte
    (toy / "env.yaml").write_text(ENV)
    replace_in_file(toy / "brewcast/common/areas.py", "return x * 1", "return x")
    told = brewcast("build").err
    assert stage not in started_stages(told), "its old products are back"
    assert stage != "judge" or "clean" in started_stages(told)  # which had been built with the others
    assert {name: now for name, now in contents(toy).items() if "failed" not in name} == before


if FULL:

    @pytest.fixture(scope="module")
    def undisturbed(published):
        "What one run leaves to which nothing happened."
        return data_products(published.root), serving_state(published.root)

    @pytest.fixture
    def fresh(tmp_path, undisturbed):
        "The same project before its first run."
        root = small_project(tmp_path / "brewcast")
        return root, commands(root)

    def agrees(root: Path, undisturbed) -> None:
        products, state = undisturbed
        ours = data_products(root)
        assert ours.keys() == products.keys()
        assert [name for name in ours if ours[name] != products[name]] == []
        assert serving_state(root) == state

    @pytest.mark.parametrize("stage", STAGES)
    def test_killed_in_a_stage(fresh, undisturbed, stage):
        root, run = fresh
        kill_build(root, stage, {})
        run("make run")
        agrees(root, undisturbed)

    @pytest.mark.parametrize(
        "step", ["store_folder", "archive_forecast", "register", "record", "append_entry", "point", "point_aliases"]
    )
    def test_killed_in_publish(fresh, undisturbed, step):
        root, run = fresh
        run("make build")
        run(f'.venv/bin/python -c "{KILLED_IN_PUBLISH.format(step=step)}"', fails=True, SOURCE="simulated")
        run("make run")
        agrees(root, undisturbed)

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
            agrees(root, undisturbed)
        finally:
            subprocess.run(["umount", "-l", root / "products"], check=True)

    def test_two_tools_build_at_once(fresh, undisturbed):
        root, run = fresh
        shells = ["make build", ". ./activate && ploomber build"]
        both = [subprocess.Popen(["bash", "-c", s], cwd=root, env=project_environment(root)) for s in shells]
        assert [process.wait(600) for process in both] == [0, 0]
        run("make run")
        agrees(root, undisturbed)

    def test_a_parameter_changed_while_a_killed_build_is_unfinished_and_changed_back(fresh, undisturbed):
        root, run = fresh
        trees = f"n_estimators: {FEWER['n_estimators']}"
        replace_in_file(root / "env.yaml", trees, "n_estimators: 7")
        kill_build(root, "evaluate", {})
        replace_in_file(root / "env.yaml", "n_estimators: 7", trees)
        run("make run")
        agrees(root, undisturbed)

    def test_a_parameter_changed_and_changed_back(fresh, undisturbed):
        root, run = fresh
        run("make build train.n_estimators=7")
        run("make run")
        agrees(root, undisturbed)
