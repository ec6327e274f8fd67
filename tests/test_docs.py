"""The documentation site: complete, from the last build, without dead links, readable without a network."""

import ast
import getpass
import importlib
import importlib.util
import io
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urljoin, urlsplit

import nbformat
import psutil
import pyarrow.parquet as pq
import pytest
from clients import run_service
from conftest import ROOT, project_environment
from house import module_of
from looking import CHROMIUM, open_offline
from PIL import Image

from brewcast.common.params import env_files, flatten_parameters, parameter_defaults, read_env, read_stages, upstream_of
from brewcast.workflow.notebooks import notebooks

EMPTY_INDEX = 'var __index = {"config": {"lang": ["en"], "separator": " ", "pipeline": []}, "docs": []}'
DRAWN = {"scale"}  # pictures of pages that are no screenshots: bench/scale.py draws this one
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1440, "height": 900}


@pytest.fixture(scope="module")
def site(project):
    "The site of a small project's last build: `root`, `run`, `pages` (HTML by path) and the `messages` of `make docs`."
    if (lessons := ROOT / "scratch/docs/lessons").exists():  # `make test` has just run them
        shutil.copytree(lessons, project.root / "scratch/docs/lessons")
    made = project.run("make docs")
    folder = project.root / "_docs"
    assert made.out.strip().splitlines()[-1] == (folder / "index.html").as_uri()
    pages = {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.html"))}
    return SimpleNamespace(root=project.root, run=project.run, folder=folder, pages=pages, messages=made.err)


@pytest.fixture
def screenshots(monkeypatch):
    "The module docs/screenshots.py. Its commands run in this project."
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("screenshots")


def load_docs_build():
    "Import docs/build.py, the script that `make docs` runs."
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs/build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", html))


def house_metadata(output: dict) -> dict:
    "What Brewcast says of an output: that it is a picture, a caption or an answer."
    return output.get("metadata", {}).get("brewcast", {})


def test_every_notebook_is_a_page_with_its_outputs(site):
    # given the notebooks, the executed stages of the last build, and the executed lessons
    stage_products = {
        stage.source: stage.product["nb"] for stage in read_stages(site.root, read_env(site.root)).values()
    }

    for path in notebooks(site.root):
        name = path.relative_to(site.root).as_posix()
        html = site.pages[name.replace(".ipynb", ".html")]
        (lesson,) = (site.root / "scratch/docs/lessons").glob(f"{path.stem}-*.ipynb")
        executed = nbformat.read(lesson, 4)
        if product := stage_products.get(name):
            built = nbformat.read(site.root / product, 4).cells
            executed.cells += built

        # then the page has its title, every section, and as many pictures, captions and tables as its outputs
        titles = re.findall(r"(?m)^#+ (.*)", "\n".join(c.source for c in executed.cells if c.cell_type == "markdown"))
        heads = " ".join(text_of(head) for head in re.findall(r"(?s)<h\d.*?</h\d>", html))
        assert [title for title in titles if text_of(title).replace("`", "") not in heads.replace("&#39;", "'")] == []
        outputs = [output for c in executed.cells if c.cell_type == "code" for output in c.outputs]
        if "*last_pictures(product)" in path.read_text():  # at the top, too
            shown = [output for c in built if c.cell_type == "code" for output in c.outputs]
            outputs += [output for output in shown if {"picture", "caption"} & set(house_metadata(output))]
        captions = [output for output in outputs if house_metadata(output).get("caption")]
        data = [output.get("data", {}) for output in outputs if output not in captions]
        pictures = [kinds for kinds in data if "image/png" in kinds]
        tables = sum("text/html" in kinds and "image/png" not in kinds for kinds in data)
        if name in stage_products:
            assert (html.count("<img"), html.count('<div class="output"')) == (len(pictures), tables)
            assert html.count('<p class="caption" data-search-exclude') == len(captions)

            # and each picture has a dark mode and a text for readers who don't see it
            assert html.count('.svg" alt=') == sum("image/svg+xml" in kinds for kinds in pictures)

        # and no directive and no hidden cell
        assert not re.search('(?<![`"])#[|] ', text_of(html))  # text in backticks or quotes may mention one


def test_lessons_of_library_notebooks_have_been_run(site):
    assert re.search(
        r"7 +2023-03-01", text_of(site.pages["nbs/common/core.html"])
    )  # the value of target_month in its lesson


def test_no_page_contains_a_path_of_this_machine(site):
    assert [path for path, html in site.pages.items() if str(site.root) in html] == []
    assert [path for path, html in site.pages.items() if str(ROOT) in html] == []


def test_every_exported_name_is_in_the_reference(site):
    for notebook in notebooks(site.root):
        name = module_of(notebook.relative_to(site.root / "nbs").with_suffix("").as_posix()).replace(".", "/")
        module, html = site.root / f"brewcast/{name}.py", site.pages[f"brewcast/{name}.html"]
        assignments = [node for node in ast.parse(module.read_text()).body if isinstance(node, ast.Assign)]
        exported = ast.literal_eval(next(node.value for node in assignments if node.targets[0].id == "__all__"))
        assert [name for name in exported if f'id="{name}"' not in html] == []


def test_a_function_has_signature_types_defaults_and_comments(site):
    page = site.pages["brewcast/data/simulate.html"]
    start = page.index('id="write_export"')
    html = page[start:].split("<h2", 1)[0]  # up to the next function
    text = text_of(html)
    assert "write_export(folder, seed=7, months=60" in text
    assert "Write globojava.csv" in text
    row = text_of(re.search(r"(?s)<tr>\s*<td><code>lines</code>.*?</tr>", html)[0])
    assert "int &#124; None" in row and "sale lines; None: in proportion" in row
    assert "dict" in text_of(re.search(r"(?s)<tr>\s*<td><strong>returns.*?</tr>", html)[0])
    assert "nbs/data/simulate.html#def-write_export" in html


def test_a_class_has_the_comment_beside_each_field(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    reference = importlib.import_module("reference")
    records = importlib.import_module("brewcast.common.records")
    page = reference.module_page("common.records", "common/records", "../records.md", records)
    assert "wape: float | None" in page and "lock: str  # sha256 of requirements.lock" in page


def test_every_parameter_is_listed_with_its_reason_and_its_stages(site):
    html = site.pages["parameters.html"]
    rows = re.findall(r"(?s)<tr>\s*<td><code>(.*?)</code></td>(.*?)</tr>", html)
    text = {name: text_of(rest) for name, rest in rows}
    assert set(flatten_parameters(read_env(site.root), parameter_defaults(site.root))) - set(text) == set()
    assert "0.01" in text["gate.min_gain"] and "share of the champion" in text["gate.min_gain"]
    assert "evaluate" in text["gate.min_gain"] and "train" not in text["gate.min_gain"]
    assert [file for file in env_files(site.root).values() if file not in text_of(html)] == []


def test_the_picture_is_drawn_from_the_pipeline(site):
    home = site.pages["index.html"]
    picture = re.search(r'(?s)<svg class="pipeline".*?</svg>', home)[0]
    assert "mermaid" not in home
    for name, stage in read_stages(site.root, read_env(site.root)).items():
        assert f'href="{stage.source.replace(".ipynb", ".html")}"' in picture
        page = site.pages[stage.source.replace(".ipynb", ".html")]
        about = re.search(r'(?s)<p class="about">.*?</p>', page)[0]
        for other in upstream_of(site.root / stage.source):
            assert f">{other}</a>" in about, name


def test_every_link_leads_somewhere_and_every_page_fits_a_phone(site, offline_browser):
    # given every page in a browser with a phone's screen, without the search index, which every page would load again
    page = open_offline(offline_browser, **PHONE)
    page.route("**/search_index.js", lambda route: route.fulfill(body=EMPTY_INDEX, content_type="text/javascript"))
    links, anchors, too_wide = [], {}, []
    for path in site.pages:
        address = (site.folder / path).as_uri()
        page.goto(address)
        targets, ids, overflow = page.evaluate(
            """() => [[...document.querySelectorAll('[href],[src]')].map(e => e.getAttribute('href') || e.getAttribute('src')),
                 [...document.querySelectorAll('[id],a[name]')].map(e => e.id || e.name),
                 document.scrollingElement.scrollWidth - innerWidth]"""
        )
        links += [(path, urljoin(address, link)) for link in targets if link]
        anchors[address] = set(ids)
        too_wide += [(path, overflow)] if overflow > 0 else []

    # then no page scrolls sideways or loads anything from another host, and the console is silent
    assert too_wide == []
    assert page.complaints == []

    # and the target of every link exists, with its anchor
    dead = []
    for path, link in links:
        parts = urlsplit(link)
        if parts.scheme == "file":
            target = parts._replace(fragment="").geturl()
            exists = (site.folder / unquote(parts.path)).is_file()
            exists = exists and (not parts.fragment or unquote(parts.fragment) in anchors.get(target, {parts.fragment}))
            dead += [] if exists else [(path, link)]
    assert len(links) > 1000 and dead == []


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_search_finds_a_word_and_opens_its_page(site, offline_browser, viewport, scheme):
    # given the home page, opened as a file, without a network
    page = open_offline(offline_browser, **viewport, scheme=scheme)
    page.goto((site.folder / "index.html").as_uri())
    color = page.evaluate("() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (min(color[:3]) > 200) == (scheme == "light")

    # when a reader searches for wape_error
    if viewport is PHONE:
        page.click("label.md-header__button[for=__search]")
    page.locator(".md-search__input").focus()  # only then the index is read
    ready = "document.querySelector('.md-search-result__meta').textContent.includes('Type to start searching')"
    page.wait_for_function(ready)  # before, a letter is searched for in no index, which is a warning on the console
    page.locator(".md-search__input").press_sequentially("wape_error")
    page.wait_for_selector(".md-search-result__link")
    page.click(".md-search-result__link >> nth=0")
    page.wait_for_url("**/brewcast/model/backtest.html*")

    # then the page that opens documents it
    assert page.locator("#wape_error").count() == 1
    assert page.complaints == []


def test_the_commands_of_the_page_list_every_feature(site):
    # given the lines of the tutorial that call Feast, as a reader types them
    tutorial = (ROOT / "docs/pages/first-hour.md").read_text()
    lines = re.findall(r"(?m)^feast -c feature_repo (?!ui )(?:[\w-]+ )+[\w-]+", tutorial)
    assert len(lines) == 4
    views, history, features, service = [site.run(f". ./activate >/dev/null && {line}").out for line in lines]

    # then they show every view, and every feature of the tables with its type
    columns = {
        name: set(pq.read_schema(site.root / f"products/simulated/features/{name}.parquet").names)
        - {"series_id", "event_timestamp", "created"}
        for name in ("history", "ahead", "profile")
    }
    listed = [line.split() for line in features.splitlines()[1:]]
    assert {name: {row[0] for row in listed if row[1] == name} for name in columns} == columns
    assert re.findall(r"(?m)^(\w+) +\{'series'\}", views) == list(columns)
    assert columns["history"] <= set(re.findall(r"- name: (\w+)", history))
    assert all(f"{view}:{name}" in service for view, names in columns.items() for name in names)


def test_feast_ui_shows_the_features_without_a_network(site, offline_browser, tmp_path):
    # given the page's command, on a free port
    tutorial = (ROOT / "docs/pages/first-hour.md").read_text()
    (command,) = re.findall(r"(?m)^(feast -c feature_repo ui .*--port) \d+$", tutorial)
    line = ["bash", "-c", f'. ./activate >/dev/null && exec {command} "$0"', "PORT"]
    options = {"cwd": site.root, "env": project_environment(site.root)}
    with run_service(line, tmp_path / "log", ready="/", **options) as service:
        host = f"http://127.0.0.1:{service.port}/"
        page = offline_browser.new_context(viewport=DESKTOP).new_page()
        others, errors = [], []
        page.on("request", lambda request: request.url.startswith((host, "data:")) or others.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))

        # then the three feature views are on its page, which asks nobody else
        page.goto(f"{host}p/brewcast_simulated/feature-view")
        for view in ("history", "ahead", "profile"):
            page.get_by_role("link", name=view, exact=True).wait_for(timeout=60_000)
        assert (others, errors) == ([], [])


def test_the_site_shows_screenshots_of_its_build(site, screenshots):
    # given the site of a project that differs from the one whose screenshots are committed
    pictures = {path.stem: path.read_bytes() for path in sorted(screenshots.COMMITTED.glob("*.png"))}
    assert set(pictures) == set(screenshots.SHOTS) | DRAWN
    committed = {name: png for name, png in pictures.items() if name not in DRAWN}
    if not CHROMIUM:
        assert "no Chromium here" in site.messages
        pytest.skip("no Chromium here: `apt-get install chromium`")
    assert "screenshot" not in site.messages  # it names each that could not be taken

    # then each picture is new, and shows a page in full
    for name, shot in screenshots.SHOTS.items():
        png = (site.folder / f"images/{name}.png").read_bytes()
        image = Image.open(io.BytesIO(png)).convert("RGB")
        assert png != committed[name]
        assert image.size == (shot.size["width"], shot.size["height"])
        assert len(image.getcolors(1 << 20)) >= screenshots.MIN_COLORS and len(png) <= screenshots.MAX_BYTES

    # and is in a page, with a text for those who do not see it
    tags = " ".join(tag for page in site.pages.values() for tag in re.findall("<img [^>]*>", page))
    for name in pictures:
        assert re.search(rf'alt="[^"]{{20,}}"[^>]* src="(\.\./)*images/{name}\.png"', tags), name

    # and the committed ones are as they were, and no server is left
    here = {path.stem: path.read_bytes() for path in (site.root / "docs/pages/images").glob("*.png")}
    assert here == pictures
    running = [process.info for process in psutil.process_iter(["cwd", "cmdline"])]
    assert [info for info in running if info["cwd"] == str(site.root)] == []


def test_committed_screenshots_are_small_and_in_readme(screenshots):
    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"!\[[^]]{20,}\]\(docs/pages/images/([\w-]+)\.png\)", readme)
    assert shown == ["month", "jupyterlab", "report", "mlflow"]
    for path in screenshots.COMMITTED.glob("*.png"):
        assert path.stat().st_size <= screenshots.MAX_BYTES
        if path.stem not in DRAWN:
            assert Image.open(path).size == tuple(screenshots.SHOTS[path.stem].size.values())


RAINBOW = '<div style="height:200px;background:linear-gradient(90deg,red,yellow,blue)"></div>'
LATE = "<script>setTimeout(() => { document.querySelector('h1').innerText = 'drawn' }, 700)</script>"
RESTLESS = "<script>setInterval(() => { document.querySelector('h1').innerText = Math.random() }, 50)</script>"
PAGES = {  # what a page contains, and why its picture is refused; None: it is taken
    "drawn late": (f"<h1></h1>{RAINBOW}{LATE}", None),
    "a path of the project": (f"<h1>in {ROOT}/products</h1>{RAINBOW}", None),
    "a word like the user's name": (f"<h1>the {getpass.getuser()} of all</h1>{RAINBOW}", None),
    "blank": ("<h1 style='color:white'>nothing</h1>", "the picture is blank"),
    "never at rest": (f"<h1>on</h1>{RAINBOW}{RESTLESS}", "does not come to rest"),
    "the user's folder": (f"<h1>see {Path.home()}/notes</h1>{RAINBOW}", "is private"),
    "the user's name": (f"<h1>Created by<br>{getpass.getuser()}</h1>{RAINBOW}", "is private"),
    "the token": (f"<h1>?token=0a1b2c</h1>{RAINBOW}", "is private"),
}


@pytest.mark.parametrize("case", PAGES)
def test_a_picture_is_taken_when_the_page_is_drawn_and_shows_nothing_private(
    screenshots, offline_browser, tmp_path, monkeypatch, case
):
    html, problem = PAGES[case]
    (tmp_path / "page.html").write_text(f"<meta charset='utf-8'><body>{html}</body>")
    monkeypatch.setattr(screenshots, "PATIENCE", 8.0)
    shot = screenshots.Shot(lambda servers: (tmp_path / "page.html").as_uri(), "h1", PHONE)
    servers = screenshots.Servers(None, "0a1b2c", None)
    if problem:
        with pytest.raises(ValueError, match=problem):
            screenshots.take_shot(offline_browser, shot, servers)
    else:
        assert screenshots.take_shot(offline_browser, shot, servers).startswith(b"\x89PNG")


def test_a_server_that_ends_is_named_with_its_last_words(screenshots, tmp_path):
    with screenshots.running("ui", ["--no-such-option"], {}, 1, "/", tmp_path) as server:
        with pytest.raises(OSError, match="does not answer.*no-such-option"):
            screenshots.wait_for_answer(server)
    assert not server.process.is_running()


def test_without_a_browser_the_committed_pictures_stay(screenshots, tmp_path, monkeypatch):
    monkeypatch.setattr(screenshots, "CHROMIUM", ())
    (tmp_path / "month.png").write_bytes(b"committed")
    assert "no Chromium here" in screenshots.show_last_build(tmp_path)[0]
    assert (tmp_path / "month.png").read_bytes() == b"committed"


def test_a_second_run_changes_nothing(site):
    before = (site.folder / "index.html").stat()
    site.run("make docs")
    assert (site.folder / "index.html").stat().st_ino == before.st_ino


def test_changed_code_needs_a_build(site):
    # given code that differs from that of the last build
    notebook = site.root / "nbs/model/13_features.ipynb"
    content = notebook.read_text()
    try:
        notebook.write_text(content.replace("months.max()", "months.min()", 1))
        error = site.run("make docs", fails=True).err
    finally:
        notebook.write_text(content)
    assert "13_features.ipynb has changed" in error and "`make build`" in error and "Traceback" not in error


def test_changed_prose_needs_no_build_and_a_dead_link_in_it_fails(site):
    # given new prose with dead links in a stage's notebook, which has not run again
    notebook = site.root / "nbs/model/13_features.ipynb"
    before = (site.folder / "nbs/model/13_features.html").read_text()
    content = notebook.read_text()
    dead = "## The calendar, [nowhere](nowhere.md), [no such place](11_clean.md#no-such-place)"
    assert '"## The calendar' in content
    try:
        notebook.write_text(content.replace("## The calendar", dead, 1))
        error = site.run("make docs", fails=True).err
    finally:
        notebook.write_text(content)

    # then the error names both links, and the site is unchanged
    assert "13_features.md" in error and "nowhere.md" in error and "no-such-place" in error
    assert (site.folder / "nbs/model/13_features.html").read_text() == before


def test_dead_links_in_built_pages_are_reported(tmp_path, screenshots):
    # given a site with one valid and one dead link of each kind
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x.html").write_text('<h2 id="here">x</h2>')
    (tmp_path / "index.html").write_text(
        '<a href="b/x.html#here"></a><a href="https://example.org"></a><img src="data:,"><svg><a href="b/y.html"/></svg>'
        '<a href="b/x.html#missing"></a><script src="https://example.org/x.js"></script><img src="b/none.png">'
    )
    lines = load_docs_build().broken_links(tmp_path)
    assert [re.split(r"[ :]+", line)[1] for line in lines] == ["b/y.html", "b/x.html#missing", "https", "b/none.png"]


def test_without_a_build_the_error_names_the_command(site):
    products = site.root / "products/simulated"
    products.rename(products.with_name("away"))
    try:
        error = site.run("make docs", fails=True).err
    finally:
        products.with_name("away").rename(products)
    assert "`make run` first" in error and "Traceback" not in error
