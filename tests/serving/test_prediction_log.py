"Every answered forecast is in the log as a whole line, whatever happens to the disk, the folder or the process."

import json
import os
import re
import subprocess

import pytest
from clients import post, run_application
from releases import make_release
from waits import wait_until

from brewcast.delivery.package import http_request
from brewcast.serving.prediction_log import Appender, read_predictions
from brewcast.serving.release import Release


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return make_release(tmp_path_factory.mktemp("release"))


def test_every_answered_forecast_is_logged_with_the_hash_of_its_row(release, tmp_path):
    with run_application(release.folder, tmp_path, predictions=tmp_path / "predictions") as served:
        status, answers = post(served.port, {"store_ids": ["STORE110", "STORE104"]}, x_request_id="r-1")
        planned = post(served.port, {"store_ids": ["STORE120"], "plan": {"promotion_share": 0.5}}, x_request_id="r-2")[
            1
        ]
        assert post(served.port, {"store_ids": ["NOWHERE"]}, x_request_id="r-3")[0] == 404
    # then each answer is logged once, and a forecast under a plan is marked
    table = read_predictions(tmp_path / "predictions")
    assert table.request_id.tolist() == ["r-1", "r-1", "r-2"] and set(table.role) == {"champion"}
    logged = table.set_index("store_id").forecast
    assert all(logged[answer["store_id"]] == answer["forecast"] for answer in [*answers, *planned])
    assert table.plan.isna().tolist() == [True, True, False] and table.features.str.fullmatch("[0-9a-f]{12}").all()
    loaded = Release(release.folder)
    assert table.features[0] == loaded.hashes[loaded.position[table.store_id[0]]]
    assert (table.latency_ms > 0).all() and (table.version == loaded.name).all()


def test_a_kill_9_leaves_whole_lines_and_the_next_start_opens_a_new_file(release, tmp_path):
    folder = tmp_path / "predictions"
    for _ in range(2):
        with run_application(release.folder, tmp_path, predictions=folder) as served:
            old_files = set(folder.glob("*"))  # at the second start, the file of the first one

            def written(old_files=old_files):
                return any(path.stat().st_size for path in set(folder.glob("*")) - old_files)

            for _request in range(50):
                post(served.port, {"store_ids": ["STORE110"]})
            wait_until(written, "written", served.process, log=served.log)
            served.process.kill()
            served.process.wait()
    assert len(list(folder.iterdir())) == 2
    for path in folder.iterdir():
        lines = path.read_bytes().split(b"\n")
        assert lines[-1] == b"" and all(json.loads(line)["store_id"] == "STORE110" for line in lines[:-1])


def test_a_log_continues_after_its_folder_was_moved_or_could_not_be_written(tmp_path):
    # given a log that opens a new file for every write, and whose folder is not writable for a while
    lost, folder = [], tmp_path / "log"
    log = Appender(folder, max_file_bytes=0, on_lost=lost.append)
    log.add(lambda: b"one\n")
    log.write()
    folder.rename(tmp_path / "aside")
    folder.write_text("in its place")
    log.add(lambda: b"two\n")
    log.write()
    other = os.open(
        tmp_path / "another", os.O_CREAT | os.O_RDWR
    )  # gets the number of a descriptor that was closed by mistake
    log.add(lambda: b"three\n")
    log.write()
    assert os.write(other, b"whole") == 5 and lost == [1, 1]
    # when a new folder can be written, then the log continues there
    folder.unlink()
    log.add(lambda: b"four\n")
    log.close()
    assert [path.read_bytes() for path in folder.iterdir()] == [b"four\n"]


def test_a_full_disk_loses_log_lines_but_no_request(release, tmp_path):
    # given a log on a disk of 64 kB
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no permission to mount a small disk")
    try:
        with run_application(release.folder, tmp_path, predictions=disk / "predictions") as served:
            request = {"store_ids": [f"STORE{101 + i}" for i in range(30)]}
            assert {post(served.port, request)[0] for _ in range(60)} == {200}

            def settled():  # numbers of lost and written lines, when every line is one of them
                counters = http_request(served.port, "GET", "/metrics")[1].decode()
                lost = float(re.search(r"(?m)^brewcast_predictions_lost_total (\S+)", counters)[1])
                written = len(read_predictions(disk / "predictions"))
                return (lost, written) if lost + written >= 1800 else None

            lost, written = wait_until(settled, "all written or lost", served.process, log=served.log)
        # then the lost lines are counted, and the written lines are whole
        assert lost > 0 and written + lost == 1800
        assert all(path.read_bytes()[-1:] in (b"", b"\n") for path in (disk / "predictions").iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)
