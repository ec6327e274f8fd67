"What MkDocs calls: pages and navigation made from the notebooks, the library, env.yaml, pipeline.yaml and README."

import posixpath
import re
from pathlib import Path

import nbformat
from lessons import CACHE, lessons, with_outputs
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, InclusionLevel
from notebooks import NotBuilt, built, page, tags, with_parameters
from picture import pipeline_picture
from reference import commands_page, module_page, modules, names, parameters_page

from brewcast.cli import build_summary
from brewcast.common.params import env_files, read_env, read_stages, upstream_of
from brewcast.workflow.notebooks import notebooks

ROOT = Path(__file__).resolve().parent.parent
SOURCE = next(iter(env_files(ROOT)))  # the default one: the site shows its last build
STAGES = read_stages(ROOT, read_env(ROOT))
PAGES = {name: stage["source"].removeprefix("nbs/").removesuffix(".ipynb") for name, stage in STAGES.items()}
GROUPS = {  # packages, in the data's way
    "common": "Common",
    "data": "Data",
    "model": "Model",
    "delivery": "Delivery",
    "serving": "Serving",
    "registry": "Registry",
    "workflow": "Workflow",
    "operations": "Operations",
    "": "Command line",
}
AS_THEY_ARE = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"]
MERMAID = re.compile(r"(?s)```mermaid.*?```")


def notebook_names() -> list[str]:  # such as "model/13_features"
    "The notebooks by package; in each, the stages in the order of their numbers, then the library."
    names = [path.relative_to(ROOT / "nbs").with_suffix("").as_posix() for path in notebooks(ROOT)]
    return sorted(names, key=lambda name: ([*GROUPS].index(posixpath.dirname(name)), name))


def module_of(
    name: str,  # such as "model/13_features"
) -> str:  # such as "model.features"
    "The module that a notebook exports."
    return re.sub(r"\b\d\d_", "", name).replace("/", ".")


def reference_of(
    module: str,  # such as "model.features"
) -> str:  # such as "brewcast/model/features.md"
    "A module's page."
    return f"brewcast/{module.replace('.', '/')}.md"


def notebook_of(
    name: str,  # such as "model/13_features"
) -> Path:  # the notebook
    "Where a notebook stands."
    return ROOT / f"nbs/{name}.ipynb"


def executed(
    stage: str,  # such as "features"
) -> Path:  # a notebook with outputs
    "Where the last build left a stage's notebook."
    return ROOT / STAGES[stage]["product"]["nb"]


def on_config(config):
    "The navigation: a group for each package, in it a page for each notebook; and the same for the modules."
    groups, library = {}, {}
    for name in notebook_names():
        group = GROUPS[posixpath.dirname(name)]
        groups.setdefault(group, []).append(f"nbs/{name}.md")
        library.setdefault(group, []).append(reference_of(module_of(name)))
    config.nav = [
        {"Home": "README.md"},
        {"Guide": ["first-hour.md", "serving.md", "month.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE.md"]},
        {"Notebooks": [{title: pages} for title, pages in groups.items()]},
        {"Reference": ["parameters.md", "commands.md", *({title: pages} for title, pages in library.items())]},
    ]
    return config


def on_files(files, config):
    "Add what is made: nothing of it is committed."

    def add(path, content):
        files.append(File.generated(config, path, content=content))

    try:
        for path, content in notebook_pages():
            add(path, content)
    except NotBuilt as missing:
        raise PluginError(str(missing)) from None
    library = modules([module_of(name) for name in notebook_names()])
    config.extra["names"] = names(library)
    for name in AS_THEY_ARE:
        add(name, (ROOT / name).read_text())
    add("LICENSE.md", f"# Licence\n\n```text\n{(ROOT / 'LICENSE').read_text()}\n```")
    add("parameters.md", parameters_page(ROOT, {name: f"nbs/{stem}.md" for name, stem in PAGES.items()}))
    add("commands.md", commands_page(ROOT))
    for name in notebook_names():
        page, module = reference_of(module_of(name)), module_of(name)
        back = posixpath.relpath(f"nbs/{name}.md", posixpath.dirname(page))
        add(page, module_page(module, name, back, library[module]))
    for path, there in examples().items():
        files.append(File.generated(config, path, abs_src_path=str(there), inclusion=InclusionLevel.INCLUDED))
    return files


def examples() -> dict[str, Path]:  # file by its place in the site
    "What the last build delivers, as it is: the month page, the reports and the tables that it leads to, the pictures."
    products = ROOT / "products" / SOURCE
    kinds = ["*/*.html", "forecast/*.csv", "explore/figures/*.png"]
    found = [path for kind in kinds for path in sorted(products.glob(kind))]
    return {f"example/{path.relative_to(products).as_posix()}": path for path in found}


def notebook_pages():
    "The notebooks' pages and pictures: stages as the last build ran them, the others executed here."
    stages_made = {name: built(notebook_of(name), executed(stage)) for stage, name in PAGES.items()}
    names = notebook_names()
    found = dict(zip(names, lessons([notebook_of(name) for name in names], ROOT, CACHE), strict=True))
    for name, made in stages_made.items():
        found[name] = with_parameters(with_outputs(notebook_of(name), made, found[name]), made)
    for name, notebook in sorted(found.items()):
        folder, stem = posixpath.split(f"nbs/{name}")
        text, pictures = page(notebook, stem, ROOT)
        yield f"nbs/{name}.md", under_title(text, about(name))
        yield from ((f"{folder}/{path}", content) for path, content in pictures.items())


def under_title(
    text: str,  # a page
    line: str,  # what to say below its title and subtitle
) -> str:  # the page with it
    "Put a line below a page's title and subtitle."
    head = re.match(r"# .*\n+(?:>.*\n)*", text)
    return f"{text[: head.end()]}\n{line}\n\n{text[head.end() :].lstrip()}"


def about(
    name: str,  # a notebook's name
) -> str:  # Markdown
    "Where a notebook stands: its module and, for a stage, what it takes and gives."
    there = lambda page: posixpath.relpath(page, posixpath.dirname(f"nbs/{name}"))  # noqa: E731
    module = module_of(name)
    said = [f"`nbs/{name}.ipynb`", f"[`brewcast.{module}`]({there(reference_of(module))})"]
    for stage in [stage for stage, stem in PAGES.items() if stem == name]:
        takes = [f"[{other}]({there(f'nbs/{PAGES[other]}.md')})" for other in upstream_of(notebook_of(name))]
        gives = [f"`{Path(path).name}`" for key, path in STAGES[stage]["product"].items() if key != "nb"]
        said += [f"takes {', '.join(takes) or 'the source’s files'}", f"gives {', '.join(gives)}"]
        said += ["[what it made](#run)"]
    return f"{' · '.join(said)}\n{{ .about }}"


def picture() -> str:  # SVG
    "The pipeline, with the files that feed it and what follows a build."
    boxes = {}
    for stage, stem in PAGES.items():
        gives = [key for key in STAGES[stage]["product"] if key != "nb"]
        boxes[stage] = {"upstream": upstream_of(notebook_of(stem)), "products": gives} | linked(stem)
    before = {"name": "the source's files", "products": ["CSV", "Parquet", "DuckDB", "SQLite"]}
    before |= {"href": "#bring-your-own-data", "title": "Bring your own data"}
    publish = {"name": "publish", "products": ["champion", "release"]} | linked("registry/publish")
    service = {"name": "POST /forecast", "products": ["the service"]} | linked("serving/app")
    return pipeline_picture(boxes, before, [publish, service])


def linked(
    stem: str,  # a notebook's name
) -> dict[str, str]:  # `href` from the home page, and `title`
    "A notebook's page and what it is about."
    said = nbformat.read(notebook_of(stem), 4).cells[0].source
    subtitle = re.search(r"(?m)^> (.*)", said)
    return {"href": f"nbs/{stem}.html", "title": subtitle[1] if subtitle else stem}


def on_page_markdown(markdown, page, config, files):
    "Pictures and figures of the last build in their places; links to LICENSE, to notebooks and to the reference."
    if page.file.src_uri == "README.md":
        markdown, found = MERMAID.subn(lambda _: picture(), markdown)
        assert found == 1, "README.md: the site draws the pipeline in place of one mermaid block; there is none"
    markdown = markdown.replace("](LICENSE)", "](LICENSE.md)").replace("](docs/pages/", "](")
    if "<!-- summary -->" in markdown:
        said = build_summary(ROOT, SOURCE).replace(f"{ROOT.as_uri()}/", "")
        markdown = markdown.replace("<!-- summary -->", f"```text\n{said}\n```")
    markdown = re.sub("<!-- injected: (.*) -->", lambda found: injected(found[1]), markdown)
    return linked_names(markdown, page.file.src_uri, config.extra["names"])


def injected(
    stage: str,  # such as "features"
) -> str:  # Markdown
    "The cell that the last build put below a stage's parameters."
    cells = [cell for cell in nbformat.read(executed(stage), 4).cells if "injected-parameters" in tags(cell)]
    return f"```python\n{cells[0].source}\n```".replace(f"{ROOT}/", "")


def linked_names(
    markdown: str,  # a page
    here: str,  # its path
    known: dict[str, str],  # module by name
) -> str:  # with links
    "Names in backticks lead to the reference, notebooks to their pages; not in code, titles and links."
    fence, lines = None, []

    def link(found):
        name = found[1].removesuffix("()")
        module, _, last = name.removeprefix("brewcast.").rpartition(".")
        target = None
        if name.startswith("nbs/") and name[4:].removesuffix(".ipynb") in notebook_names():
            target = name.replace(".ipynb", ".md")
        elif known.get(last) and module in ("", known[last]):
            target = f"{reference_of(known[last])}#{last}"
        same = target is None or target.split("#")[0] == here
        return found[0] if same else f"[{found[0]}]({posixpath.relpath(target, posixpath.dirname(here) or '.')})"

    for line in markdown.split("\n"):
        mark = re.match(r"\s*(```+|~~~+|<pre|<div|<svg)", line)
        if fence:
            fence = None if fence in line else fence
        elif mark:
            closing = {"<pre": "</pre>", "<div": "</div>", "<svg": "</svg>"}.get(mark[1], mark[1])
            fence = None if closing in line[mark.end() :] else closing
        elif not line.startswith("#"):
            line = re.sub(r"(?<![\[`\w])`([\w./]+(?:\(\))?)`(?![`\]])", link, line)
        lines.append(line)
    return "\n".join(lines)
