"""Screenshots of what a build leaves, taken in a real Chromium without a network.

`make docs` takes them from the last build, for the site. `make screenshots` takes them for README: those are committed.
"""

import contextlib
import getpass
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import psutil
from chromium import CHROMIUM, FLAGS

from brewcast.common.mlflow_tables import REGISTERED_MODEL
from brewcast.common.params import TELEMETRY_OFF, env_files
from brewcast.workflow.start_page import START_PAGE

ROOT = Path(__file__).resolve().parent.parent
SOURCE = next(iter(env_files(ROOT)))  # the first source is the default one
PRODUCTS = ROOT / "products" / SOURCE
COMMITTED = ROOT / "docs/pages/images"  # what README shows, and the site where no Chromium is installed
FRESH = ROOT / "scratch/docs/images"  # of the last build: the site shows these where they exist

DESKTOP = {"width": 1280, "height": 800}
TALL = {"width": 1280, "height": 1060}  # the whole pipeline
PHONE = {"width": 390, "height": 800}
ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # no page asks another host
PATIENCE = 120.0  # seconds for a server to start or a page to be drawn: the machine may be busy with tests
MAX_COLORS = 256  # a palette makes a file a third as large; pages of text and charts look the same
MIN_COLORS = 30  # an empty page has fewer, with its frame and the edges of a few letters
MAX_BYTES = 150_000  # of a picture: a reader of README loads all of them
FEW_PROCESSES = {"MLFLOW_WORKERS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # each one imports MLflow again
# MLflow opens a chat for language models over the page, and the menu for them, on the first visit
MLFLOW_SETTINGS = {
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
    "mlflow.workflowType_v1": '"machine_learning"',
}

# paths of this machine become relative to the project, as on the other pages of the site
SHORTEN = """prefixes => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    while (texts.nextNode()) for (const prefix of prefixes)
        if (texts.currentNode.data.includes(prefix))
            texts.currentNode.data = texts.currentNode.data.replaceAll(prefix, '') }"""


class Server(NamedTuple):
    "A program of this project that serves while screenshots are taken."

    process: psutil.Popen
    url: str  # without a slash at its end
    ready: str  # the path that answers once it serves
    log: Path  # its output


class Servers(NamedTuple):
    "All of them."

    lab: Server  # JupyterLab
    token: str  # JupyterLab's
    mlflow: Server


class Shot(NamedTuple):
    "What is on a picture, and how to know that the page is drawn."

    address: Callable[[Servers], str]  # of the page; raises OSError if its server does not answer
    text: str  # Playwright's selector of something that the page shows last
    size: dict[str, int] = DESKTOP  # pixels
    top: str = ""  # Playwright's selector of what is moved to the top of the picture


def product_address(
    path: str,  # relative to the products of the source
) -> Callable[[Servers], str]:
    "The address of a page that the last build wrote."
    return lambda servers: (PRODUCTS / path).as_uri()


def start_page_address(
    servers: Servers,
) -> str:
    "JupyterLab's first page."
    return f"{wait_for_answer(servers.lab)}/lab/tree/{START_PAGE}?token={servers.token}"


def run_address(
    servers: Servers,
) -> str:
    "MLflow's page with the metrics of the champion's run."
    champion = urlencode({"name": REGISTERED_MODEL, "alias": "champion"})
    url = wait_for_answer(servers.mlflow)
    answer = read_json(f"{url}/api/2.0/mlflow/registered-models/alias?{champion}")
    run_id = answer["model_version"]["run_id"]
    run = read_json(f"{url}/api/2.0/mlflow/runs/get?run_id={run_id}")["run"]
    return f"{url}/#/experiments/{run['info']['experiment_id']}/runs/{run_id}/model-metrics"


SHOTS = {
    "month": Shot(product_address("forecast/month.html"), "h1"),
    "month-phone": Shot(product_address("forecast/month.html"), "h1", PHONE),
    "report": Shot(product_address("evaluate/evaluate.html"), "h1"),
    "jupyterlab": Shot(start_page_address, "svg.pipeline .box >> nth=-1", TALL),
    "mlflow": Shot(run_address, ".js-plotly-plot .main-svg >> nth=0", size=TALL, top="text=/^Model metrics/ >> nth=-1"),
}


def read_json(
    url: str,
) -> dict:
    "What an address answers."
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def find_chromium() -> str | None:
    "The path of the browser, if one is installed."
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def free_port() -> int:
    "A port of this machine that nothing listens on."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(
    name: str,  # a command of `brewcast`
    options: list[str],  # of the command
    environment: dict[str, str],  # added to the present one
    port: int,
    ready: str,  # the path that answers once it serves
    folder: Path,  # for its log
) -> Iterator[Server]:
    "A command of this project. Its processes are ended, also after an error."
    command = [sys.executable, "-m", "brewcast.cli", name, "--source", SOURCE, "--port", str(port), *options]
    variables = {**os.environ, **TELEMETRY_OFF, "BREWCAST_ROOT": "", "PYTHONPATH": str(ROOT), **environment}
    log = folder / f"{name}.log"
    with log.open("w") as output:
        process = psutil.Popen(command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield Server(process, f"http://127.0.0.1:{port}", ready, log)
    finally:
        end_process(process)


def wait_for_answer(
    server: Server,
) -> str:  # its address
    "Wait until a server answers. Raises OSError with the last line of its log if it does not."
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(server.url + server.ready, timeout=5):
            return server.url
        time.sleep(0.1)
    lines = [line for line in server.log.read_text().splitlines() if line.strip()]
    raise OSError(f"its server does not answer: {(lines or ['no output'])[-1]}")


def end_process(
    process: psutil.Process,
) -> None:
    "End a process that this program has started, and those that it started itself: MLflow's workers, kernels."
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
        _, remaining = psutil.wait_procs(family, timeout=15)
        for member in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()


@contextlib.contextmanager
def all_servers(
    folder: Path,  # for logs, and for Jupyter's files in place of the user's
) -> Iterator[Servers]:
    "JupyterLab and MLflow, on ports of this machine that only the program's own browser asks."
    token = secrets.token_hex(16)
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    own_folders = {name: str(folder / name) for name in names}  # without the user's theme, extensions and open tabs
    options = [
        "--",
        "--no-browser",
        f"--IdentityProvider.token={token}",
        f"--LabApp.workspaces_dir={folder}/workspaces",
    ]
    with (
        running("ui", [], FEW_PROCESSES, free_port(), "/health", folder) as mlflow,
        running("lab", options, own_folders, free_port(), "/api", folder) as lab,  # /api answers without the token
    ):
        yield Servers(lab, token, mlflow)


def private_patterns(
    token: str,  # JupyterLab's
) -> list[str]:  # regular expressions
    "What no picture may show: folders, user and name of this machine, and a token."
    user = rf"(?i:by|user|[@~/])[\s:]*{re.escape(getpass.getuser())}"  # a user's name may be a word, such as root
    words = [re.escape(word) for word in (str(ROOT), str(Path.home()), socket.gethostname(), token)]
    return [rf"(?<!\w){word}(?!\w)" for word in [user, *words]]


def check_text(
    text: str,  # of a page
    private: list[str],  # regular expressions
) -> None:
    "Raise ValueError if a page shows what is private."
    for pattern in private:
        if found := re.search(pattern, text):
            raise ValueError(f"the page shows {found[0]!r}, which is private")


def compress(
    png: bytes,
) -> bytes:  # PNG with a palette
    "A small picture. Raises ValueError if it is blank, or too large for README."
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    found = image.getcolors(maxcolors=image.width * image.height)
    if len(found) < MIN_COLORS:
        raise ValueError(f"the picture is blank: it has {len(found)} colours")
    output = io.BytesIO()
    image.quantize(MAX_COLORS, dither=Image.Dither.NONE).save(output, "PNG", optimize=True)
    if output.tell() > MAX_BYTES:
        raise ValueError(f"the picture has {output.tell()} bytes, {MAX_BYTES} are allowed")
    return output.getvalue()


def take_shot(
    browser,  # of Playwright
    shot: Shot,
    servers: Servers,
) -> bytes:  # PNG
    "Open a page, wait until it is drawn, and take its picture. Raises ValueError or Playwright's Error if it cannot be."
    page = browser.new_page(viewport=shot.size, color_scheme="light", locale="en-GB", timezone_id="UTC")
    try:
        page.set_default_timeout(PATIENCE * 1000)
        for key, value in MLFLOW_SETTINGS.items():
            page.add_init_script(f"try {{ localStorage.setItem({key!r}, {value!r}) }} catch {{}}")
        page.goto(shot.address(servers))
        page.locator(shot.text).wait_for()
        if shot.top:
            page.locator(shot.top).evaluate("part => part.scrollIntoView()")
        page.evaluate(SHORTEN, [f"{ROOT.as_uri()}/", f"{ROOT}/"])
        png = settled_picture(page)
        check_text(page.inner_text("body"), private_patterns(servers.token))
        return compress(png)
    finally:
        page.close()


def settled_picture(
    page,  # of Playwright
) -> bytes:  # PNG
    "A picture of a page that has come to rest: three in a row are the same. Raises ValueError if it never does."
    pictures, deadline = [], time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        pictures = [*pictures[-2:], page.screenshot(animations="disabled")]
        if len(pictures) == 3 and len(set(pictures)) == 1:
            return pictures[0]
        page.wait_for_timeout(400)
    raise ValueError("the page does not come to rest")


def take_screenshots(
    target: Path,  # a folder; pictures in it are replaced
) -> dict[str, str]:  # by name of the shot: why there is no picture; empty if all were taken
    "Take all screenshots. One that fails stops no other."
    from playwright.sync_api import Error, sync_playwright

    problems = {}
    target.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended then, too
    with tempfile.TemporaryDirectory() as folder, all_servers(Path(folder)) as servers, sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*FLAGS, ALONE])
        except Error as error:
            return dict.fromkeys(SHOTS, f"Chromium does not start: {str(error).splitlines()[0]}")
        for name, shot in SHOTS.items():
            try:
                (target / f"{name}.png").write_bytes(take_shot(browser, shot, servers))
            except (OSError, ValueError, KeyError, Error) as error:
                problems[name] = str(error).splitlines()[0]
        browser.close()
    return problems


def screenshots_key() -> str:  # hex digest
    "A hash of what the pictures depend on: the pages, what was built and published, libraries, browser, this program."
    state = ROOT / "state" / SOURCE
    paths = [PRODUCTS / "forecast/month.html", PRODUCTS / "evaluate/evaluate.html", ROOT / "requirements.lock"]
    paths += [Path(__file__), *sorted(state.glob("releases/*/release.json")), *sorted(state.glob("runs/*"))]
    contents = [path.read_bytes() for path in paths if path.is_file()]
    contents.append(str(find_chromium()).encode())
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()


def show_last_build(
    images: Path,  # the folder of a built site that has the committed pictures
) -> list[str]:  # sentences: which pictures are still the committed ones, and why
    "Replace the pictures of a site by those of the last build. They are taken once for a build."
    if not find_chromium():
        return ["no Chromium here: the site shows the screenshots that are committed, not those of the last build"]
    record = FRESH / ".taken"  # the key, then the sentences
    key = screenshots_key()
    if not record.exists() or record.read_text().split("\n")[0] != key:
        shutil.rmtree(FRESH, ignore_errors=True)
        problems = take_screenshots(FRESH)
        lines = [
            f"screenshot {name}: {problem}; the site shows the committed one" for name, problem in problems.items()
        ]
        record.write_text("\n".join([key, *lines]))
    for path in FRESH.glob("*.png"):
        shutil.copyfile(path, images / path.name)
    return record.read_text().split("\n")[1:]


def main() -> int:  # exit status
    "Take the screenshots that are committed. Old ones stay where a new one cannot be taken."
    if not (PRODUCTS / "forecast/month.html").exists():
        problems = {"month": f"no month page of {SOURCE}: `make run` first"}
    elif not find_chromium():
        problems = {"all": "no Chromium here: `apt-get install chromium`"}
    else:
        problems = take_screenshots(COMMITTED)
    print(*[f"screenshot {name}: {problem}" for name, problem in problems.items()], sep="\n", file=sys.stderr)
    taken = [COMMITTED / f"{name}.png" for name in sorted(SHOTS)]
    print(*[path.relative_to(ROOT) for path in taken if path.exists()], sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
