"Kernels forked from a warm process: they run real notebooks, and they and the process end in every possible way."

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import ROOT, project_environment
from nbclient.exceptions import DeadKernelError
from papermill.execute import execute_notebook
from waits import restore_stop_signals

from brewcast.workflow import kernels
from brewcast.workflow.kernels import PRELOADED_MODULES, ForkKernelManager

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")
PARENT = "import os\nos.getppid()"
COLD = "jupyter_client.AsyncKernelManager"


def run(tmp_path, *cells, manager="brewcast.workflow.kernels.ForkKernelManager"):
    "The last value that each cell shows, executed by papermill in the same way as in a build."
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "source.ipynb")
    options = {"kernel_manager_class": manager, "extra_arguments": ["--log-level=CRITICAL"]}
    executed = execute_notebook(tmp_path / "source.ipynb", tmp_path / "executed.ipynb", progress_bar=False, **options)
    values = [[output.data for output in cell.outputs if "data" in output] for cell in executed.cells]
    return [value[-1].get("image/png") or value[-1]["text/plain"] if value else None for value in values]


def forked(tmp_path, *cells):
    "The same, with an assertion that the kernel is a fork of the warm process."
    *values, parent = run(tmp_path, *cells, PARENT)
    assert parent == str(kernels._warm_process.process.pid)
    return values


def cold(tmp_path, *cells):
    "The same, in a cold kernel."
    *values, parent = run(tmp_path, *cells, PARENT, manager=COLD)
    assert parent == str(os.getpid())
    return values


@pytest.fixture(scope="module", autouse=True)
def hash_seed():
    "The same hash seed as in a build."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONHASHSEED", "0")
        patch.delenv("BREWCAST_KERNELS", raising=False)
        yield


@pytest.fixture
def warm():
    "A warm process that has imported what every kernel needs."
    kernels.end_warm_process()
    kernels.start_warm_process({}, ["ipykernel.kernelapp", "numpy.random"])
    yield kernels._warm_process
    kernels.end_warm_process()


@pytest.fixture(scope="module")
def full(hash_seed):
    "A warm process that has imported everything."
    kernels.end_warm_process()
    kernels.start_warm_process({"BREWCAST_LOCK": "of this build"})
    idle, process = 0, psutil.Process(kernels._warm_process.process.pid)
    while idle < 10:
        time.sleep(0.05)
        idle = idle + 1 if process.status() == "sleeping" else 0
    yield kernels._warm_process
    kernels.end_warm_process()


def in_kernel(manager, check):
    "Run a coroutine on a running kernel and its client."

    async def go():
        await manager.start_kernel(extra_arguments=["--log-level=CRITICAL"])
        client = manager.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=60)
            return await check(manager, client)
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(now=True)

    return asyncio.run(go())


LIKE_COLD = """
import gc, os, random, signal, sys, threading, warnings
import numpy as np, pandas as pd
here = {k: v for k, v in os.environ.items() if k not in {"JPY_PARENT_PID", "BREWCAST_LOCK", "_MLFLOW_TELEMETRY_SESSION_ID"}}
{"path": sys.path, "flags": str(sys.flags), "argv": [a for a in sys.argv if ".json" not in a], "cwd": os.getcwd(),
 "handlers": [str(signal.getsignal(s))[:30] for s in (signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD)],
 "session": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()], "threads": threading.active_count(),
 "hash": hash("a string"), "gc": gc.isenabled(), "stdin": os.read(0, 1), "limits": sys.getrecursionlimit(),
 "columns": pd.get_option("display.max_columns"), "get_ipython": type(get_ipython()).__name__, "main": __name__,
 "HOME": here.get("HOME"), "backend": here.get("MPLBACKEND"),
 "library variables": sorted(k for k in here if k.startswith(("OPENBLAS", "JE_ARROW", "PROMETHEUS", "PLOTLY")))}
"""
RANDOM = "import random, uuid, numpy as np\n[random.random(), float(np.random.rand()), uuid.uuid4().hex]"
THREADS = """
import hashlib, io, joblib, numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq, duckdb
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
X = np.random.default_rng(0).random((4000, 12)); y = X @ np.arange(12) + X[:, 0] ** 2
frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(12)]).assign(y=y)
frame.to_parquet("numbers.parquet"); file = open("numbers.parquet", "rb").read()
forest = RandomForestRegressor(30, n_jobs=2, random_state=0).fit(X, y).set_params(n_jobs=1)  # sums in one order
pool = joblib.Parallel(n_jobs=2)(joblib.delayed(pow)(i, 2) for i in range(20))
duck = duckdb.sql("select count(*), sum(y::decimal(18, 6))::varchar from 'numbers.parquet'").fetchall()
linear = [Ridge().fit(X, y).coef_.tobytes(), (X.T @ X).tobytes(), np.linalg.svd(X)[1].tobytes()]
read = pq.read_table("numbers.parquet", use_threads=True).equals(pa.Table.from_pandas(frame))
[hashlib.sha256(b).hexdigest() for b in [file, forest.predict(X).tobytes(), *linear]] + [pool, duck, read]
"""
PICTURE = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]);"
FEAST = f"""
import sys
sys.path[:0] = ["{ROOT}/tests"]
from pathlib import Path
import pandas as pd
from brewcast.common.core import write_parquet
from brewcast.model.feature_store import materialize_features, online_rows, point_in_time_join
from tables import all_tables, make_lines, make_plan
folder = Path("features"); folder.mkdir(exist_ok=True)
tables = all_tables(make_lines(), make_plan())
for name, table in tables.items():
    write_parquet(table, folder / f"{{name}}.parquet")
history = tables["history"]
materialize_features(folder.resolve(), "toy", history.event_timestamp.max().tz_localize(None))
decisions = history[["series_id", "created"]].rename(columns={{"created": "decided_at"}}).reset_index(drop=True)
joined = point_in_time_join(folder.resolve(), "toy", decisions)
online = online_rows(folder.resolve(), "toy", sorted(set(history.series_id)))
pd.testing.assert_series_equal(joined.rate_last, history.rate_last.reset_index(drop=True))
len(joined), int(online.rate_last.notna().sum()) > 0
"""


def lessons(name):
    "The code cells of a notebook that nbdev tests."
    cells = [cell.source for cell in nbformat.read(ROOT / "nbs" / f"{name}.ipynb", 4).cells if cell.cell_type == "code"]
    return [cell for cell in cells if "eval: false" not in cell]


def test_a_fork_is_like_a_kernel_that_was_started(full, tmp_path, monkeypatch):
    # given a warm process that has imported all modules
    monkeypatch.setenv("BREWCAST_LOCK", "as launched")
    missing = f"import sys\n[name for name in {PRELOADED_MODULES} if name not in sys.modules]"
    not_imported, lock = forked(tmp_path, missing, "import os\nos.environ['BREWCAST_LOCK']")
    assert not_imported == "[]" and lock == "'as launched'"
    with open(f"/proc/{full.process.pid}/environ") as file:
        assert "BREWCAST_LOCK=of this build" in file.read()  # other processes see this value for its forks

    # when the same cells run in a fork and in a cold kernel
    monkeypatch.chdir(tmp_path)
    cells = [LIKE_COLD, THREADS, PICTURE]
    forked_values, cold_values = forked(tmp_path, *cells), cold(tmp_path, *cells)

    # then they show the same values and pictures
    for forked_value, cold_value in zip(forked_values, cold_values, strict=True):
        assert forked_value == cold_value

    # and two forks draw different random numbers
    first, second = (eval(forked(tmp_path, RANDOM)[0]) for _ in range(2))
    assert not set(first) & set(second)


def test_feast_mlflow_and_evidently_work_in_forks(full, tmp_path, monkeypatch):
    monkeypatch.setenv("BREWCAST_ROOT", str(ROOT))
    forked(tmp_path, *lessons("common/mlflow"))  # logs a model run
    forked(tmp_path, *lessons("model/20_monitor"))  # makes Evidently's reports
    monkeypatch.chdir(tmp_path)
    forked(tmp_path, FEAST)


TRANSPORT = (
    "import json\nfrom ipykernel.connect import get_connection_info\njson.loads(get_connection_info())['transport']"
)


@pytest.mark.parametrize("setting", ["", "cold"])
def test_a_kernel_uses_no_port_and_leaves_no_socket(setting, tmp_path, monkeypatch):
    # given a warm process to fork from, or none
    monkeypatch.setenv("BREWCAST_KERNELS", setting)
    short = Path(tempfile.mkdtemp(prefix="brewcast-"))  # pytest's own folders have long names
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    kernels.end_warm_process()
    kernels.start_warm_process({}, ["ipykernel.kernelapp"])
    # then a kernel uses no port, so no other program can take it
    assert run(tmp_path, TRANSPORT) == ["'ipc'"]
    kernels.end_warm_process()
    assert not list(short.glob(f"{kernels.SOCKETS_PREFIX}*"))
    shutil.rmtree(short)
    # but it does where the path of a socket would be too long, counted in bytes
    wide = Path(tempfile.mkdtemp(prefix="brewcast-" + "ü" * 30, dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(wide))
    assert run(tmp_path, TRANSPORT) == ["'tcp'"]
    shutil.rmtree(wide)
    (tmp_path / "long" / ("x" * 80)).mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "long" / ("x" * 80)))
    assert run(tmp_path, TRANSPORT) == ["'tcp'"]


def test_a_kernel_that_is_killed_is_reported(warm, tmp_path):
    with pytest.raises(DeadKernelError):
        run(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert forked(tmp_path, "1 + 1") == ["2"]  # the next kernel is a fork again
    assert not psutil.Process(warm.process.pid).children()


def test_interrupt_restart_and_end(warm):
    async def check(manager, client):
        # given a cell that runs for a long time
        has_started = asyncio.Event()

        def on_message(message):
            if message["msg_type"] == "stream":  # the text that the cell prints
                has_started.set()

        running = asyncio.ensure_future(
            client.execute_interactive(
                "import time\nprint('started')\ntime.sleep(600)", output_hook=on_message, timeout=60
            )
        )
        await has_started.wait()

        # when the kernel is interrupted, then the cell ends, and the kernel still works
        await manager.interrupt_kernel()
        assert (await running)["content"]["ename"] == "KeyboardInterrupt"
        assert (await client.execute_interactive("1", timeout=60))["content"]["status"] == "ok"

        # when it is restarted, then it is another fork, and the old one has ended
        first = manager.provisioner.process
        await manager.restart_kernel(now=True)
        await client.wait_for_ready(timeout=60)
        second = manager.provisioner.process
        assert (
            isinstance(second, kernels.ForkedKernel) and second.pid != first.pid and first.returncode == -signal.SIGKILL
        )

        # when it receives a shutdown request, then it ends with status 0
        manager.shutdown_wait_time = (
            60.0  # seconds before it is killed: the default, 5, is too short on a loaded machine
        )
        await manager.shutdown_kernel()
        assert second.returncode == 0

    in_kernel(ForkKernelManager(kernel_name="python3"), check)
    assert not psutil.Process(warm.process.pid).children()


def test_without_a_usable_warm_process_kernels_are_cold(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, "brewcast.workflow.kernels")
    own_pid = str(os.getpid())

    # given no warm process
    kernels.end_warm_process()
    assert run(tmp_path, PARENT) == [own_pid]

    # given the setting that turns it off
    monkeypatch.setenv("BREWCAST_KERNELS", "cold")
    kernels.start_warm_process({})
    assert kernels._warm_process is None
    monkeypatch.delenv("BREWCAST_KERNELS")

    # given a warm process with a second thread
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=[600]).start()"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    kernels.start_warm_process({}, ["threaded"])
    while psutil.Process(kernels._warm_process.process.pid).num_threads() == 1:
        time.sleep(0.05)
    assert run(tmp_path, PARENT) == [own_pid]
    kernels.end_warm_process()

    # given one whose Python started with other settings
    kernels.start_warm_process({}, [])
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    assert run(tmp_path, PARENT) == [own_pid]
    monkeypatch.setenv("PYTHONHASHSEED", "0")

    # given one that died
    kernels._warm_process.process.kill()
    kernels._warm_process.process.wait()
    assert run(tmp_path, PARENT) == [own_pid]
    kernels.start_warm_process({}, [])  # starts another one
    forked(tmp_path)
    kernels.end_warm_process()
    assert len([record for record in caplog.records if "a cold kernel: " in record.message]) == 4


def test_an_answer_that_comes_too_late_makes_no_kernel(warm):
    # given a suspended warm process
    process = psutil.Process(warm.process.pid)
    process.suspend()

    # when a kernel is requested, then the request times out
    with pytest.raises(TimeoutError):
        kernels.ForkedKernel(warm.requests, kernels.KernelRequest([], {}, "/"), timeout=0.5)

    # and when the process resumes, then the fork for that request ends by itself
    process.resume()
    deadline = time.monotonic() + 30
    next_kernel = kernels.ForkedKernel(
        warm.requests, kernels.KernelRequest(["", "", "", "--version"], {}, "/"), timeout=30
    )
    assert next_kernel.wait(120) == 0
    while process.children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not process.children()


BUILD = """
import asyncio, os, sys, time
from brewcast.workflow import kernels

kernels.start_warm_process({}, ["ipykernel.kernelapp"])
manager = kernels.ForkKernelManager(kernel_name="python3")
asyncio.run(manager.start_kernel())
print(kernels._warm_process.process.pid, manager.provisioner.process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_warm_process_and_its_kernels_end_with_the_build(stop, tmp_path):
    environment = project_environment(ROOT) | {"PYTHONHASHSEED": "0"}
    command, quiet = [sys.executable, "-c", BUILD], subprocess.DEVNULL
    build = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=quiet, text=True, preexec_fn=restore_stop_signals
    )
    processes = [psutil.Process(int(pid)) for pid in build.stdout.readline().split()]
    assert len(processes) == 2 and processes[1].parent() == processes[0]
    build.send_signal(stop)
    build.wait()
    assert not psutil.wait_procs(processes, timeout=30)[1]


def test_end_also_ends_processes_that_kernels_have_started(warm):
    async def check(manager, client):
        texts = []
        code = "import subprocess\nprint(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"

        def on_message(message):
            texts.append(message["content"].get("text"))

        await client.execute_interactive(code, output_hook=on_message, timeout=60)
        processes = [psutil.Process(int(next(filter(None, texts)))), psutil.Process(manager.provisioner.process.pid)]
        kernels.end_warm_process()
        assert not psutil.wait_procs(processes, timeout=30)[1]
        assert await manager.is_alive() is False

    in_kernel(ForkKernelManager(kernel_name="python3"), check)


def test_socket_folders_of_killed_builds_are_removed_and_no_others(tmp_path, monkeypatch):
    # given the folder of a killed build, the locked folder of a running one, and a new folder
    short = Path(tempfile.mkdtemp(prefix="brewcast-"))  # pytest's own folders have long names
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    for name in ("stale", "locked", "new"):
        (short / f"{kernels.SOCKETS_PREFIX}{name}").mkdir()
        (short / f"{kernels.SOCKETS_PREFIX}{name}" / "socket-1").touch()
    (short / "somebody's").mkdir()
    for name in (f"{kernels.SOCKETS_PREFIX}stale", f"{kernels.SOCKETS_PREFIX}locked", "somebody's"):
        os.utime(short / name, (0, 0))
    locks = f"import fcntl, os; fcntl.flock(os.open({str(short / kernels.SOCKETS_PREFIX)!r} + 'locked', 0), fcntl.LOCK_EX); print('locked', flush=True); os.read(0, 1)"
    with subprocess.Popen([sys.executable, "-c", locks], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"locked\n"
        # when the next kernel is about to start
        kernels.remove_stale_sockets()
        # then the folder that no process has locked is removed
        remaining = {path.name.removeprefix(kernels.SOCKETS_PREFIX) for path in short.iterdir()}
        holder.stdin.close()
    assert remaining == {"locked", "new", "somebody's"}
    # and the folder of a running kernel is locked
    for name in ("new", "locked"):
        (short / f"{kernels.SOCKETS_PREFIX}{name}").rename(short / name)
    code = f"import fcntl, glob, os\n(own,) = glob.glob({str(short / kernels.SOCKETS_PREFIX)!r} + '*')"
    code += "\ntry:\n    fcntl.flock(os.open(own, 0), fcntl.LOCK_EX | fcntl.LOCK_NB)\n    is_locked = False"
    code += "\nexcept OSError:\n    is_locked = True\nis_locked"
    assert run(tmp_path, code) == ["True"]
    assert not list(short.glob(f"{kernels.SOCKETS_PREFIX}*"))
    shutil.rmtree(short)
