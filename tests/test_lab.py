"JupyterLab in a real browser: notebooks open with the last build's parameters, edits are exported and built, a plan is changed."

import contextlib
import difflib
import hashlib
import json
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from chromium import FLAGS
from conftest import ROOT, project_environment
from looking import CHROMIUM

from brewcast.common.hashing import content_hash
from brewcast.common.params import read_env, read_stages
from brewcast.serving.release import Release
from brewcast.workflow.notebooks import notebooks

NOTEBOOKS = {path.relative_to(ROOT / "nbs").as_posix(): re.sub(r"^\d\d_", "", path.stem) for path in notebooks(ROOT)}
STAGES = list(read_stages(ROOT, read_env(ROOT)))
LIVE = {
    "common/core.ipynb",
    "workflow/kernels.ipynb",
    "model/13_features.ipynb",
}  # each opens with a kernel of its own; other stages share the kernel of the last one
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def committed(project):
    "The small project, built, published and committed to git."
    project.run("git init -q && git add -A && git -c user.name=a -c user.email=a@example.com commit -qm start")
    return project


@pytest.fixture(autouse=True)
def as_committed(committed):
    "Undo the edits of each test."
    yield
    committed.run("git checkout -q .")


@pytest.fixture(scope="module")
def lab(committed, tmp_path_factory):
    "JupyterLab in the project, started in the same way as by `make lab`: its address, and a function that calls its API."
    home = tmp_path_factory.mktemp("home")  # without the settings, kernels and extensions of a user
    own = {
        name: str(home / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    }
    command = [".venv/bin/python", "-m", "brewcast.cli", "lab", "--", "--no-browser"]
    command += ["--IdentityProvider.token=t", "--LabApp.expose_app_in_browser=True"]
    with open(home / "lab.log", "w") as log:
        environment = project_environment(committed.root) | own
        server = subprocess.Popen(command, cwd=committed.root, env=environment, stdout=log, stderr=log)
    url = ""  # JupyterLab takes the first free port and writes its address to a file

    def call(path: str, content: dict | None = None, method: str = "GET", body: dict | None = None) -> dict | None:
        body = {"type": "notebook", "format": "json", "content": content} if content else body
        headers, data = {"Authorization": "token t", "Content-Type": "application/json"}, json.dumps(body).encode()
        data = data if body else None
        request = urllib.request.Request(f"{url}/api/{path}", data, headers, method="PUT" if body else method)
        answer = urllib.request.urlopen(request, timeout=120).read()
        return json.loads(answer) if answer else None

    try:
        address_file = home / "JUPYTER_RUNTIME_DIR" / f"jpserver-{server.pid}.json"
        for _ in range(480):
            assert server.poll() is None, (home / "lab.log").read_text()
            with contextlib.suppress(
                OSError, ValueError
            ):  # the file is missing or incomplete, or the server does not listen yet
                url = json.loads(address_file.read_text())["url"].rstrip("/").replace("localhost", "127.0.0.1")
                call("contents/nbs")
                break
            time.sleep(0.25)
        yield SimpleNamespace(root=committed.root, run=committed.run, call=call, url=url)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(120)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.fixture(scope="module")
def browser():
    "A real Chromium."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def is_early(message) -> bool:
    "Jupyter Server answers 500 while a listed kernel is starting and has no state. The page soon asks again."
    return "/api/kernels?" in message.location["url"] and "status of 500" in message.text


def is_wrong(answer) -> bool:
    return answer.status >= 400 and not (answer.status == 500 and "/api/kernels?" in answer.url)


@pytest.fixture
def page(lab, browser):
    "JupyterLab's page, high enough for most of a notebook. Fails on errors and on requests to another machine."
    page = browser.new_page(viewport={"width": 1400, "height": 2400})
    page.set_default_timeout(60_000)
    problems = []

    def on_console(message):
        if message.type == "error" and not is_early(message):
            problems.append(message.text)

    def on_response(response):
        if is_wrong(response):
            problems.append(f"{response.status} {response.url}")

    def on_request(request):
        if is_elsewhere(request.url, lab.url):
            problems.append(request.url)

    page.on("console", on_console)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("response", on_response)
    page.on("request", on_request)
    page.goto(f"{lab.url}/lab?token=t&reset")
    page.locator(".jp-DirListing-item").first.wait_for()
    yield page
    page.close()
    assert problems == []
    for kernel in lab.call("kernels"):  # its sessions end with it
        lab.call(f"kernels/{kernel['id']}", method="DELETE")


def is_elsewhere(address: str, url: str) -> bool:
    return not address.startswith((url, url.replace("http", "ws"), "data:", "blob:"))


def open_notebook(page, name: str, kernel: str | None = None) -> list[dict]:
    "Open a notebook, with this running kernel or a new one, and return the source and metadata of its cells."
    page.evaluate(
        """id => {
            const registry = window.jupyterapp.docRegistry
            registry.preference ??= registry.getKernelPreference.bind(registry)
            registry.getKernelPreference = (...of) => ({...registry.preference(...of), ...(id ? {id} : {})}) }""",
        kernel,
    )
    page.evaluate("path => { window.jupyterapp.commands.execute('docmanager:open', {path}) }", f"nbs/{name}")
    title = json.loads((ROOT / "nbs" / name).read_text())["cells"][0]["source"][0].strip("# \n")
    shown = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) h1")
    shown.filter(has_text=re.compile(f"^{re.escape(title)}¶?$")).wait_for()  # ¶ is the heading's link
    return page.evaluate("window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells")


def run_all_cells(page) -> None:
    "Run > Run All Cells, and wait until the last cell has run. Fails with the error of a cell."
    page.get_by_role("button", name=re.compile(r"\| Idle")).wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    ended = """() => {
        const cells = window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells
        const code = cells.filter(cell => cell.cell_type == 'code')
        const failed = code.flatMap(cell => cell.outputs).find(output => output.output_type == 'error')
        if (failed) return failed.ename + ': ' + failed.evalue
        return code[code.length - 1].execution_count ? 'done' : false }"""
    assert page.wait_for_function(ended, polling=200).json_value() == "done"
    page.get_by_role("button", name=re.compile(r"\| Idle")).wait_for()


def injected(cells: list[dict]) -> str:
    "The code of the injected parameters cell; empty if there is none."
    return "".join("".join(c["source"]) for c in cells if "injected-parameters" in c["metadata"].get("tags", []))


def content_of(folder: Path, leave: tuple = (".lock",)) -> dict:
    "The hash of every file below a folder, and the target of every link."
    files = {path: path for path in folder.rglob("*") if path.is_file() and path.name not in leave}
    files = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return files | {path.name: str(path.readlink()) for path in folder.iterdir() if path.is_symlink()}


def edit_env(root: Path, name: str, value: str) -> None:
    path = root / "env.yaml"
    text, count = re.subn(rf"(?m)^( *{name}: )\S+", rf"\g<1>{value}", path.read_text())
    assert count == 1
    path.write_text(text)


def test_every_notebook_opens_with_its_parameters_and_a_save_without_edits_changes_nothing(lab):
    before = {path: content_hash(path.read_text()) for path in notebooks(lab.root)}
    assert len(before) == len(NOTEBOOKS)
    for notebook, stage in NOTEBOOKS.items():
        content = lab.call(f"contents/nbs/{notebook}")["content"]
        product = f'product = {{\n    "nb": "{lab.root}/products/simulated/{stage}/{stage}.ipynb",\n'
        assert (product in injected(content["cells"])) == (stage in STAGES)
        lab.call(f"contents/nbs/{notebook}", content)
    assert lab.run("git status --porcelain").out == ""
    assert {path: content_hash(path.read_text()) for path in before} == before


def test_a_saved_edit_is_exported_and_outputs_are_not_saved(lab):
    content = lab.call("contents/nbs/data/11_clean.ipynb")["content"]
    cell = next(c for c in content["cells"] if "".join(c["source"]).startswith("#| export\ndef "))
    cell["source"] = "".join(cell["source"]) + "\n\n\ndef added_here() -> int:\n    return 1"
    cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "shown"}]
    cell["execution_count"] = 7
    lab.call("contents/nbs/data/11_clean.ipynb", content)
    assert "def added_here()" in (lab.root / "brewcast/data/clean.py").read_text()
    changed = lab.run("git diff --unified=0 nbs").out
    lines = [line for line in changed.splitlines() if re.match(r"[+-][^+-]", line)]
    assert any("added_here" in line for line in lines) and len(lines) <= 7
    assert "shown" not in changed and "execution_count" not in changed


UNFINISHED = {  # a notebook, the text that is replaced, the new text, and the message
    "code": (
        "data/11_clean.ipynb",
        "#| export\ndef ",
        "#| export\ndef half(:\ndef ",
        "line 2, `def half(:`: invalid syntax",
    ),
    "a directive": ("data/11_clean.ipynb", "#| export\ndef ", "#| expor\ndef ", "did you mean `#| export`?"),
    "a magic": ("data/11_clean.ipynb", "#| export\ndef ", "#| export\n%time 1\ndef ", "a magic is not Python"),
    "no module": (
        "data/11_clean.ipynb",
        "#| default_exp data.clean",
        "1",
        "no cell names the module: add `#| default_exp data.clean`",
    ),
    "parameters": ("data/11_clean.ipynb", "upstream = [", "upstream = [[", "11_clean.ipynb, its parameters: line "),
}


@pytest.mark.parametrize("case", UNFINISHED)
def test_unfinished_code_is_saved_and_named_but_not_exported(lab, case):
    # given an exported project, and two open notebooks
    notebook, old, new, problem = UNFINISHED[case]
    other = "data/12_explore.ipynb"
    library = content_of(lab.root / "brewcast")
    opened = {name: lab.call(f"contents/nbs/{name}")["content"] for name in (notebook, other)}
    unfinished, edited = json.loads(json.dumps(opened[notebook])), json.loads(json.dumps(opened[other]))
    cell = next(c for c in unfinished["cells"] if old in "".join(c["source"]) and c["cell_type"] == "code")
    cell["source"] = "".join(cell["source"]).replace(old, new, 1)
    # when one is saved with unfinished code, for example by autosave
    answer = lab.call(f"contents/nbs/{notebook}", unfinished)

    # then it is saved and opens again, and no module has changed
    def sources(cells):
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]

    assert cell["source"] in sources(json.loads((lab.root / "nbs" / notebook).read_text())["cells"])
    assert cell["source"] in sources(lab.call(f"contents/nbs/{notebook}")["content"]["cells"])
    assert content_of(lab.root / "brewcast") == library
    # and the messages of the save, of `make why` and of `make build` name the cell
    messages = [lab.run(line, fails=True).err for line in ("make why", "make build")]
    messages.append(answer["message"])
    for message in messages:
        assert f"nbs/{notebook}" in message and problem in message and "Traceback" not in message
    # and another notebook is still exported when it is saved
    next(c for c in edited["cells"] if c["source"].startswith("#| export"))["source"] += "\nadded_here = 1"
    answer = lab.call(f"contents/nbs/{other}", edited)
    assert (case == "parameters") or problem in answer["message"]
    assert "added_here = 1" in (lab.root / "brewcast/data/explore.py").read_text()
    # and when both edits are undone, everything is as before
    for name, content in opened.items():
        answer = lab.call(f"contents/nbs/{name}", content)
    assert "message" not in answer and content_of(lab.root / "brewcast") == library
    assert lab.run("git diff").out == ""


def test_a_notebook_with_a_merge_conflict_stops_no_other_and_can_be_fixed_in_the_editor(lab):
    # given a file with a merge conflict, which is not a notebook any more
    path = lab.root / "nbs/data/11_clean.ipynb"
    library = content_of(lab.root / "brewcast")
    text = path.read_text()
    path.write_text("<<<<<<< HEAD\n" + text + "=======\n>>>>>>> other\n")
    # when another notebook is saved, then this works, and the message names the first one
    content = lab.call("contents/nbs/data/12_explore.ipynb")["content"]
    answer = lab.call("contents/nbs/data/12_explore.ipynb", content)
    assert "nbs/data/11_clean.ipynb: line 1: an unresolved git conflict" in answer["message"]
    assert "nbs/data/11_clean.ipynb: line 1: an unresolved git conflict" in lab.run("make why", fails=True).err
    # and when the file is fixed as text, then there is no message any more
    body = {"type": "file", "format": "text", "content": text}
    assert "message" not in lab.call("contents/nbs/data/11_clean.ipynb", body=body)
    assert content_of(lab.root / "brewcast") == library


@needs_browser
def test_the_page_shows_the_problem_until_the_code_is_complete(lab, page):
    def save():
        page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")

    open_notebook(page, "data/11_clean.ipynb")
    cells = "window.jupyterapp.shell.currentWidget.content.model.sharedModel.cells"
    cell = f"{cells}.find(cell => cell.source.includes('def half(:') || cell.source.startsWith('#| export\\ndef'))"
    complete = page.evaluate(f"{cell}.source")
    # when unfinished code is saved, then the save works, and the page says what is not exported
    page.evaluate(f"text => {{ {cell}.source = text }}", complete + "\n\ndef half(:")
    save()
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    message = page.get_by_text("Saved. Builds fail until you complete this: nbs/data/11_clean.ipynb: cell ")
    message.wait_for()
    assert (
        "invalid syntax" in message.inner_text() and "def half(:" in (lab.root / "nbs/data/11_clean.ipynb").read_text()
    )
    # and when the code is complete again, then the message disappears
    page.evaluate(f"text => {{ {cell}.source = text }}", complete)
    save()
    message.wait_for(state="detached")
    assert lab.run("git status --porcelain").out == ""


def test_parameters_are_those_of_the_last_build(lab):
    # given a build with another value, and a later value without a build
    edit_env(lab.root, "golden_stores", "3")
    assert re.findall(r"of \d+ +(\w+) +done", lab.run("make build").err) == ["package"]
    edit_env(lab.root, "golden_stores", "5")
    # when
    cells = lab.call("contents/nbs/delivery/31_package.ipynb")["content"]["cells"]
    # then
    assert "golden_stores = 3\n" in injected(cells)


@needs_browser
def test_stages_and_some_library_notebooks_open_with_their_parameters(lab, page):
    shown = "window.jupyterapp.shell.currentWidget"
    running = f"{shown}.sessionContext.session?.kernel"
    live, kernel = [path for path in NOTEBOOKS if path in LIVE], None
    others = [path for path, stage in NOTEBOOKS.items() if stage in STAGES and path not in live]
    assert len(live) == len(LIVE) and {NOTEBOOKS[path] for path in [*live, *others]} >= set(STAGES)
    for notebook in [*live, *others]:
        # when it is opened
        cells, stage = open_notebook(page, notebook, None if notebook in live else kernel), NOTEBOOKS[notebook]
        # then it shows the cells of the file, and a stage has its parameters below their defaults
        shown_cells = [cell for cell in cells if "injected-parameters" not in cell["metadata"].get("tags", [])]
        of_file = json.loads((lab.root / "nbs" / notebook).read_text())["cells"]
        assert ["".join(c["source"]) for c in shown_cells] == ["".join(c["source"]) for c in of_file]
        assert len(cells) - len(shown_cells) == (stage in STAGES)
        if stage in STAGES:
            page.get_by_text("This cell was injected automatically").locator("visible=true").first.wait_for()
        page.wait_for_function(f"{running}?.status == 'idle'", polling=50)
        kernel = page.evaluate(f"{running}.id")
    # and opening them has changed no file: every kernel runs, and there is nothing to save
    notebooks = "[...window.jupyterapp.shell.widgets('main')].filter(panel => panel.sessionContext)"
    dirty = f"{notebooks}.filter(panel => panel.context.model.dirty).map(panel => panel.context.path)"
    assert page.evaluate(f"{notebooks}.length") == len(live) + len(others) and page.evaluate(dirty) == []
    assert len(lab.call("kernels")) == len(LIVE)
    assert lab.run("git status --porcelain").out == ""


@needs_browser
def test_the_lab_opens_on_the_start_page_and_its_picture_opens_the_notebook_of_a_stage(lab, page):
    shown = "window.jupyterapp.shell.currentWidget.context"
    # when JupyterLab is opened without a path
    page.goto(f"{lab.url}/?token=t")
    picture = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) svg.pipeline")
    picture.wait_for()
    # then it shows the start page, with outputs although no cell has run, and there is nothing to save
    assert page.evaluate(f"{shown}.path") == "scratch/start.ipynb"
    assert sorted(picture.locator("b").all_inner_texts()) == sorted(STAGES)
    page.get_by_text("the data ends on 2024-04-30").wait_for()
    verdict = json.loads((lab.root / "products/simulated/evaluate/verdict.json").read_text())["verdict"]
    page.get_by_text(f"verdict   {verdict}: ").wait_for()
    page.get_by_role("button", name=re.compile(r"\| Idle")).wait_for()
    assert not page.evaluate(f"{shown}.model.dirty")
    # when a stage has another parameter, and the cells are run, then the page shows the stage and the reason
    edit_env(lab.root, "golden_stores", "7")
    run_all_cells(page)
    picture.locator(".stale", has_text="package").wait_for()
    page.get_by_text("parameter golden_stores: ").wait_for()
    # when a stage is clicked, then its notebook opens, with the parameters of the last build
    picture.get_by_role("link", name=re.compile("^evaluate")).click()
    page.wait_for_function(f"{shown}?.path == 'nbs/model/22_evaluate.ipynb'")
    page.get_by_text("This cell was injected automatically").locator("visible=true").first.wait_for()
    assert lab.run("git status --porcelain").out.split() == ["M", "env.yaml"]


@needs_browser
def test_a_changed_plan_changes_the_forecast(lab, page):
    # given the release that serves
    serving, state = Release(lab.root / "state/simulated/current"), content_of(lab.root / "state/simulated")
    planned = serving.numbers[:, serving.model.column_index["promotion_next"]]
    place = max(i for i, share in enumerate(planned) if share < 0.3)
    store, answer = serving.ids[place], serving.answer(serving.ids[place], serving.store_forecasts[place])
    # when the notebook is run, a store is chosen with the keyboard and every day is made a promotion day with the mouse
    open_notebook(page, "serving/what_if.ipynb")
    run_all_cells(page)
    panel = page.locator(".jp-OutputArea-output .widget-vbox").last
    panel.locator("input").click()
    page.keyboard.press("Control+a")
    page.keyboard.type(store)
    page.keyboard.press("Tab")
    found = panel.locator(".widget-html b")
    found.get_by_text(f"{store}, ").wait_for()
    as_planned, picture = found.inner_text(), panel.locator("img").get_attribute("src")
    panel.get_by_role("button", name="every day").click()
    found.get_by_text("compared with the plan").wait_for()
    # then the planned forecast is the served one, the other is higher, and the picture is another one
    units = [
        int(re.search(r": ([\d,]+) pieces", text)[1].replace(",", "")) for text in (as_planned, found.inner_text())
    ]
    assert as_planned.endswith("pieces, as planned") and units[0] == round(answer["forecast"]) < units[1]
    assert panel.locator("img").get_attribute("src") != picture
    # and the serving state has not changed, nor has the saved notebook
    page.keyboard.press("Control+s")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    assert content_of(lab.root / "state/simulated") == state
    assert lab.run("git status --porcelain").out == ""


@needs_browser
def test_a_changed_function_is_run_saved_and_built(lab, page):
    # given
    state = content_of(lab.root / "state/simulated")
    before = json.loads((lab.root / "products/simulated/evaluate/verdict.json").read_text())["errors"]["candidate"]
    answers = Release(lab.root / "state/simulated/current").store_forecasts.tolist()
    # when a function is changed in the editor, and all cells are run
    open_notebook(page, "model/22_evaluate.ipynb")
    page.get_by_text("return before.combine_first(").click()
    page.keyboard.press("End")
    page.keyboard.type(
        " * (4 if len(rows) > 200 else 1)"
    )  # not on the toys of the lessons, which say what it should be
    run_all_cells(page)
    # then the change is visible: the scale is now twice as large, so the error is half of what it was
    candidate = page.locator(".jp-RenderedHTMLCommon tr").filter(has_text="Candidate")
    candidate.get_by_text(f"{before['rmsse'] / 2:.2f}", exact=True).first.wait_for()
    # when it is saved
    page.keyboard.press("Control+s")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    # then git shows the change in the notebook and in its module, and nothing else
    assert lab.run("git status --porcelain").out.split() == [
        "M",
        "brewcast/model/evaluate.py",
        "M",
        "nbs/model/22_evaluate.ipynb",
    ]
    for name in ("brewcast/model/evaluate.py", "nbs/model/22_evaluate.ipynb"):
        was = lab.run(f"git show HEAD:{name}").out.splitlines()
        now = (lab.root / name).read_text().splitlines()
        changed = [line for line in difflib.ndiff(was, now) if line[0] in "+-"]
        assert len(changed) == 2 and [line.count("* (4 if") for line in changed] == [0, 1], changed
    # and the serving state has not changed
    assert content_of(lab.root / "state/simulated") == state
    assert Release(lab.root / "state/simulated/current").store_forecasts.tolist() == answers
    # when the next build runs, then it runs that stage and those downstream, and also stages that read the state,
    # because the last build has been published since
    reasons = json.loads(lab.run(".venv/bin/python -m brewcast.cli why --json").out)
    kinds = {stage: {reason["kind"] for reason in own} for stage, own in reasons.items() if own}
    assert {stage for stage, stage_kinds in kinds.items() if "code" in stage_kinds} == {"evaluate"}
    stages_that_read_state = kinds.keys() - {"evaluate", "forecast", "package"}
    assert stages_that_read_state <= {"features", "monitor", "train"}
    assert all(kinds[stage] <= {"state", "upstream"} for stage in stages_that_read_state)
    output = lab.run("make build").err
    executed = set(re.findall(r"of \d+ +(\w+) +done", output))
    assert {"evaluate", "forecast", "package"} <= executed <= kinds.keys()
    assert re.search("evaluate +starts", output)
    after = json.loads((lab.root / "products/simulated/evaluate/verdict.json").read_text())["errors"]["candidate"]
    assert after["rmsse"] == pytest.approx(before["rmsse"] / 2)
    after_build = content_of(lab.root / "state/simulated")
    changed = {name for name, content in after_build.items() if state.get(name) != content}
    # the record of this build, and MLflow's of the other verdict on the same candidate
    assert not [name for name in changed if not name.startswith(("runs/", "mlflow.db", "mlartifacts/"))]


def test_the_source_is_that_of_the_last_build_or_of_the_setting(committed):
    # given another source that was built later
    later = committed.root / "products/walmart/inputs.json"
    later.parent.mkdir()
    later.write_text("{}")
    for setting, source in [
        ("", "walmart"),
        ("SOURCE=maven_market ", "maven_market"),
        ("SOURCE=simulated ", "simulated"),
    ]:
        output = committed.run(f"{setting}.venv/bin/python -m brewcast.cli lab -- --version").err
        assert f"source {source}, parameters as last built" in output
    shutil.rmtree(later.parent)
