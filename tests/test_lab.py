"JupyterLab in a real browser: notebooks open with the last build's parameters, an edit is saved and built, a plan is switched."

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
from conftest import ROOT, project_environment

from brewcast.common.hashing import digest
from brewcast.common.params import read_env, read_stages
from brewcast.serving.release import Release
from brewcast.workflow.notebooks import notebooks

CHROMIUM = shutil.which("chromium")
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
QUIET += " --disable-component-update --disable-sync"
NOTEBOOKS = {path.relative_to(ROOT / "nbs").as_posix(): re.sub(r"^\d\d_", "", path.stem) for path in notebooks(ROOT)}
STAGES = list(read_stages(ROOT, read_env(ROOT)))
LIVE = {
    "common/core.ipynb",
    "workflow/kernels.ipynb",
    "model/13_features.ipynb",
}  # shown with a kernel each, stages with the last of these
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def place(project):
    "The small project, built and published, under git."
    project.run("git init -q && git add -A && git -c user.name=a -c user.email=a@example.com commit -qm start")
    return project


@pytest.fixture(autouse=True)
def as_committed(place):
    "What a test edits is taken back, whether it passes or not."
    yield
    place.run("git checkout -q .")


@pytest.fixture(scope="module")
def lab(place, tmp_path_factory):
    "JupyterLab in it, as `make lab` starts it: its address, and a function that calls its contents API."
    home = tmp_path_factory.mktemp("home")  # nobody's own settings, kernels or extensions
    own = {
        name: str(home / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    }
    command = [".venv/bin/python", "-m", "brewcast.cli", "lab", "--", "--no-browser"]
    command += ["--IdentityProvider.token=t", "--LabApp.expose_app_in_browser=True"]
    with open(home / "lab.log", "w") as log:
        environment = project_environment(place.root) | own
        server = subprocess.Popen(command, cwd=place.root, env=environment, stdout=log, stderr=log)
    url = ""  # it takes the first port that is free, and writes down which

    def call(path: str, content: dict | None = None, method: str = "GET", body: dict | None = None) -> dict | None:
        body = {"type": "notebook", "format": "json", "content": content} if content else body
        headers, data = {"Authorization": "token t", "Content-Type": "application/json"}, json.dumps(body).encode()
        data = data if body else None
        request = urllib.request.Request(f"{url}/api/{path}", data, headers, method="PUT" if body else method)
        answer = urllib.request.urlopen(request, timeout=120).read()
        return json.loads(answer) if answer else None

    try:
        written = home / "JUPYTER_RUNTIME_DIR" / f"jpserver-{server.pid}.json"
        for _ in range(480):
            assert server.poll() is None, (home / "lab.log").read_text()
            with contextlib.suppress(OSError, ValueError):  # not there, half written, or not yet listening
                url = json.loads(written.read_text())["url"].rstrip("/").replace("localhost", "127.0.0.1")
                call("contents/nbs")
                break
            time.sleep(0.25)
        yield SimpleNamespace(root=place.root, run=place.run, call=call, url=url)
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
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield browser
        browser.close()


def is_early(told) -> bool:
    "Jupyter Server lists a kernel that is starting before it has a state, answers 500, and is asked again soon."
    return "/api/kernels?" in told.location["url"] and "status of 500" in told.text


def is_wrong(answer) -> bool:
    return answer.status >= 400 and not (answer.status == 500 and "/api/kernels?" in answer.url)


@pytest.fixture
def page(lab, browser):
    "JupyterLab's page, tall enough to hold most of a notebook. No error in it, and nothing asked of another machine."
    page = browser.new_page(viewport={"width": 1400, "height": 2400})
    page.set_default_timeout(60_000)
    wrong = []
    page.on("console", lambda told: wrong.append(told.text) if told.type == "error" and not is_early(told) else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("response", lambda answer: wrong.append(f"{answer.status} {answer.url}") if is_wrong(answer) else None)
    page.on("request", lambda asked: wrong.append(asked.url) if is_elsewhere(asked.url, lab.url) else None)
    page.goto(f"{lab.url}/lab?token=t&reset")
    page.locator(".jp-DirListing-item").first.wait_for()
    yield page
    page.close()
    assert wrong == []
    for kernel in lab.call("kernels"):  # and with each the sessions that share it
        lab.call(f"kernels/{kernel['id']}", method="DELETE")


def is_elsewhere(address: str, url: str) -> bool:
    return not address.startswith((url, url.replace("http", "ws"), "data:", "blob:"))


def open_notebook(page, name: str, kernel: str | None = None) -> list[dict]:
    "Open it as a click in the file browser does, with a kernel that runs or its own, and give its cells: source and metadata."
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


def run_to_the_bottom(page) -> None:
    "Run > Run All Cells, and wait until the last cell has run. Fails with the error where a cell has one."
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
    "The code of the cell that holds the parameters, empty where there is none."
    return "".join("".join(c["source"]) for c in cells if "injected-parameters" in c["metadata"].get("tags", []))


def content_of(folder: Path, leave: tuple = (".lock",)) -> dict:
    "Every file below a folder and its hash, links as what they lead to."
    files = {path: path for path in folder.rglob("*") if path.is_file() and path.name not in leave}
    files = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return files | {path.name: str(path.readlink()) for path in folder.iterdir() if path.is_symlink()}


def edit_env(root: Path, name: str, value: str) -> None:
    path = root / "env.yaml"
    text, found = re.subn(rf"(?m)^( *{name}: )\S+", rf"\g<1>{value}", path.read_text())
    assert found == 1
    path.write_text(text)


def test_every_notebook_opens_with_its_parameters_and_saving_it_unchanged_changes_nothing(lab):
    before = {path: digest(path.read_text()) for path in notebooks(lab.root)}
    assert len(before) == len(NOTEBOOKS)
    for notebook, stage in NOTEBOOKS.items():
        content = lab.call(f"contents/nbs/{notebook}")["content"]
        assert (f'"nb": "{lab.root}/products/simulated/{stage}/' in injected(content["cells"])) == (stage in STAGES)
        lab.call(f"contents/nbs/{notebook}", content)
    assert lab.run("git status --porcelain").out == ""
    assert {path: digest(path.read_text()) for path in before} == before


def test_an_edit_that_is_saved_is_in_the_module_and_outputs_are_not(lab):
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


HALF = {  # what is typed so far, by notebook: what is replaced, by what, and what is said of it
    "code": (
        "data/11_clean.ipynb",
        "#| export\ndef ",
        "#| export\ndef half(:\ndef ",
        "line 2, `def half(:`: invalid syntax",
    ),
    "a directive": ("data/11_clean.ipynb", "#| export\ndef ", "#| expor\ndef ", "did you mean `#| export`?"),
    "a magic": ("data/11_clean.ipynb", "#| export\ndef ", "#| export\n%time 1\ndef ", "a magic is no Python"),
    "no place": (
        "data/11_clean.ipynb",
        "#| default_exp data.clean",
        "1",
        "no cell says where to: `#| default_exp data.clean`",
    ),
    "parameters": ("data/11_clean.ipynb", "upstream = [", "upstream = [[", "11_clean.ipynb, its parameters: line "),
}


@pytest.mark.parametrize("typed", HALF)
def test_what_is_half_typed_is_saved_named_and_not_exported_until_it_is_whole(lab, typed):
    # given a project that is in step, and two notebooks that are open
    notebook, old, new, told = HALF[typed]
    other, library = "data/12_explore.ipynb", content_of(lab.root / "brewcast")
    opened = {name: lab.call(f"contents/nbs/{name}")["content"] for name in (notebook, other)}
    half, edited = json.loads(json.dumps(opened[notebook])), json.loads(json.dumps(opened[other]))
    cell = next(c for c in half["cells"] if old in "".join(c["source"]) and c["cell_type"] == "code")
    cell["source"] = "".join(cell["source"]).replace(old, new, 1)
    # when one is saved half typed, as autosave does
    answer = lab.call(f"contents/nbs/{notebook}", half)
    # then it is saved, opens again, and nothing of the library has changed
    sources = lambda cells: ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]  # noqa: E731
    assert cell["source"] in sources(json.loads((lab.root / "nbs" / notebook).read_text())["cells"])
    assert cell["source"] in sources(lab.call(f"contents/nbs/{notebook}")["content"]["cells"])
    assert content_of(lab.root / "brewcast") == library
    # and whoever saves, builds or asks why is told where
    said = [lab.run(line, fails=True).err for line in ("make why", "make build")]
    said.append(answer["message"])
    for text in said:
        assert f"nbs/{notebook}" in text and told in text and "Traceback" not in text
    # and another notebook that is saved is exported all the same
    next(c for c in edited["cells"] if c["source"].startswith("#| export"))["source"] += "\nadded_here = 1"
    answer = lab.call(f"contents/nbs/{other}", edited)
    assert (typed == "parameters") or told in answer["message"]
    assert "added_here = 1" in (lab.root / "brewcast/data/explore.py").read_text()
    # and when both are taken back, all is as it was
    for name, content in opened.items():
        answer = lab.call(f"contents/nbs/{name}", content)
    assert "message" not in answer and content_of(lab.root / "brewcast") == library
    assert lab.run("git diff").out == ""


def test_a_notebook_with_git_s_conflict_stops_no_other_and_is_mended_in_the_editor(lab):
    # given one that is no notebook any more
    path, library = lab.root / "nbs/data/11_clean.ipynb", content_of(lab.root / "brewcast")
    text = path.read_text()
    path.write_text("<<<<<<< HEAD\n" + text + "=======\n>>>>>>> other\n")
    # when another is saved, then it is, and the first is named
    content = lab.call("contents/nbs/data/12_explore.ipynb")["content"]
    answer = lab.call("contents/nbs/data/12_explore.ipynb", content)
    assert "nbs/data/11_clean.ipynb: line 1: a conflict that git left" in answer["message"]
    assert "nbs/data/11_clean.ipynb: line 1: a conflict that git left" in lab.run("make why", fails=True).err
    # and when it is mended as a text, then nothing more is said
    body = {"type": "file", "format": "text", "content": text}
    assert "message" not in lab.call("contents/nbs/data/11_clean.ipynb", body=body)
    assert content_of(lab.root / "brewcast") == library


@needs_browser
def test_what_is_half_typed_is_said_on_the_page_until_it_is_whole(lab, page):
    open_notebook(page, "data/11_clean.ipynb")
    save = lambda: page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")  # noqa: E731
    cells = "window.jupyterapp.shell.currentWidget.content.model.sharedModel.cells"
    cell = f"{cells}.find(cell => cell.source.includes('def half(:') || cell.source.startsWith('#| export\\ndef'))"
    whole = page.evaluate(f"{cell}.source")
    # when it is half typed and saved, then it is saved, and the page says what is not exported
    page.evaluate(f"text => {{ {cell}.source = text }}", whole + "\n\ndef half(:")
    save()
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    told = page.get_by_text("Saved. No build until this is whole: nbs/data/11_clean.ipynb: cell ")
    told.wait_for()
    assert "invalid syntax" in told.inner_text() and "def half(:" in (lab.root / "nbs/data/11_clean.ipynb").read_text()
    # and when it is whole again, then that is gone
    page.evaluate(f"text => {{ {cell}.source = text }}", whole)
    save()
    told.wait_for(state="detached")
    assert lab.run("git status --porcelain").out == ""


def test_parameters_are_those_of_the_last_build(lab):
    # given a build with another value, and a value that nothing was built with
    edit_env(lab.root, "golden_stores", "3")
    assert re.findall(r"of \d+ +(\w+) +done", lab.run("make build").err) == ["package"]
    edit_env(lab.root, "golden_stores", "5")
    # when
    cells = lab.call("contents/nbs/delivery/31_package.ipynb")["content"]["cells"]
    # then
    assert "golden_stores = 3\n" in injected(cells)


@needs_browser
def test_stages_and_some_of_the_library_are_shown_with_their_parameters(lab, page):
    shown = "window.jupyterapp.shell.currentWidget"
    running = f"{shown}.sessionContext.session?.kernel"
    live, kernel = [path for path in NOTEBOOKS if path in LIVE], None
    others = [path for path, stage in NOTEBOOKS.items() if stage in STAGES and path not in live]
    assert len(live) == len(LIVE) and {NOTEBOOKS[path] for path in [*live, *others]} >= set(STAGES)
    for notebook in [*live, *others]:
        # when it is opened
        cells, stage = open_notebook(page, notebook, None if notebook in live else kernel), NOTEBOOKS[notebook]
        # then it is the file, and a stage has its parameters below their defaults
        ours = [cell for cell in cells if "injected-parameters" not in cell["metadata"].get("tags", [])]
        of_file = json.loads((lab.root / "nbs" / notebook).read_text())["cells"]
        assert ["".join(c["source"]) for c in ours] == ["".join(c["source"]) for c in of_file]
        assert len(cells) - len(ours) == (stage in STAGES)
        if stage in STAGES:
            page.get_by_text("This cell was injected automatically").locator("visible=true").first.wait_for()
        page.wait_for_function(f"{running}?.status == 'idle'", polling=50)
        kernel = page.evaluate(f"{running}.id")
    # and looking at them has changed nothing: now that every kernel runs, there is nothing to save
    notebooks = "[...window.jupyterapp.shell.widgets('main')].filter(panel => panel.sessionContext)"
    dirty = f"{notebooks}.filter(panel => panel.context.model.dirty).map(panel => panel.context.path)"
    assert page.evaluate(f"{notebooks}.length") == len(live) + len(others) and page.evaluate(dirty) == []
    assert len(lab.call("kernels")) == len(LIVE)
    assert lab.run("git status --porcelain").out == ""


@needs_browser
def test_a_plan_is_switched_and_the_forecast_moves(lab, page):
    # given what serves
    serving, state = Release(lab.root / "state/simulated/current"), content_of(lab.root / "state/simulated")
    planned = serving.numbers[:, serving.model.place["promotion_next"]]
    place = max(i for i, share in enumerate(planned) if share < 0.3)
    store, answer = serving.ids[place], serving.answer(serving.ids[place], serving.told[place])
    # when the notebook is run, a store is chosen with the keyboard and every day is made a promotion day with the mouse
    open_notebook(page, "serving/what_if.ipynb")
    run_to_the_bottom(page)
    panel = page.locator(".jp-OutputArea-output .widget-vbox").last
    panel.locator("input").click()
    page.keyboard.press("Control+a")
    page.keyboard.type(store)
    page.keyboard.press("Tab")
    found = panel.locator(".widget-html b")
    found.get_by_text(f"{store}, ").wait_for()
    as_planned, picture = found.inner_text(), panel.locator("img").get_attribute("src")
    panel.get_by_role("button", name="every day").click()
    found.get_by_text("on the plan").wait_for()
    # then the forecast as planned is the one that serves, the other is higher, and the picture is another
    units = [
        int(re.search(r": ([\d,]+) pieces", text)[1].replace(",", "")) for text in (as_planned, found.inner_text())
    ]
    assert as_planned.endswith("pieces, as planned") and units[0] == round(answer["forecast"]) < units[1]
    assert panel.locator("img").get_attribute("src") != picture
    # and nothing that serves has changed, nor the notebook when it is saved
    page.keyboard.press("Control+s")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    assert content_of(lab.root / "state/simulated") == state
    assert lab.run("git status --porcelain").out == ""


@needs_browser
def test_a_function_is_changed_run_saved_and_built(lab, page):
    # given
    state = content_of(lab.root / "state/simulated")
    before = json.loads((lab.root / "products/simulated/evaluate/verdict.json").read_text())["errors"]["candidate"]
    answers = Release(lab.root / "state/simulated/current").told.tolist()
    # when a function is changed in the editor, and the notebook is run to the bottom
    open_notebook(page, "model/22_evaluate.ipynb")
    page.get_by_text("return before.combine_first(").click()
    page.keyboard.press("End")
    page.keyboard.type(" * 4")
    run_to_the_bottom(page)
    # then the change is seen: an error scaled by the root of four is half of what it was
    page.locator(".jp-RenderedHTMLCommon td").get_by_text(f"{before['rmsse'] / 2:.4f}", exact=True).first.wait_for()
    # when it is saved
    page.keyboard.press("Control+s")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    # then git holds the change and nothing else, in the notebook and in its module
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
        assert len(changed) == 2 and [line.count("* 4") for line in changed] == [0, 1], changed
    # and nothing that serves has moved
    assert content_of(lab.root / "state/simulated") == state
    assert Release(lab.root / "state/simulated/current").told.tolist() == answers
    # when the next build runs, then it runs that stage and what follows from it, and, as the last build was published
    # since, what is told of the state
    reasons = json.loads(lab.run(".venv/bin/python -m brewcast.cli why --json").out)
    kinds = {stage: {reason["kind"] for reason in found} for stage, found in reasons.items() if found}
    assert {stage for stage, found in kinds.items() if "code" in found} == {"evaluate"}
    told_of_state = kinds.keys() - {"evaluate", "forecast", "package"}
    assert told_of_state <= {"features", "monitor", "train"}
    assert all(kinds[stage] <= {"state", "upstream"} for stage in told_of_state)
    told = lab.run("make build").err
    ran = set(re.findall(r"of \d+ +(\w+) +done", told))
    assert {"evaluate", "forecast", "package"} <= ran <= kinds.keys()
    assert re.search("evaluate +starts", told)
    after = json.loads((lab.root / "products/simulated/evaluate/verdict.json").read_text())["errors"]["candidate"]
    assert after["rmsse"] == pytest.approx(before["rmsse"] / 2)
    moved = {name for name, made in content_of(lab.root / "state/simulated").items() if state.get(name) != made}
    assert not [name for name in moved if not name.startswith("runs/")]  # the record of this build


def test_the_source_is_that_of_the_last_build_or_the_one_that_is_asked_for(place):
    # given another source that was built later
    later = place.root / "products/walmart/inputs.json"
    later.parent.mkdir()
    later.write_text("{}")
    for asked, source in [
        ("", "walmart"),
        ("SOURCE=maven_market ", "maven_market"),
        ("SOURCE=simulated ", "simulated"),
    ]:
        told = place.run(f"{asked}.venv/bin/python -m brewcast.cli lab -- --version")
        assert f"source {source}, parameters as last built" in told.err
    shutil.rmtree(later.parent)
