"MkDocs hooks: they make pages and navigation from the notebooks, the library, env.yaml, pipeline.yaml and README."

import doctest
import posixpath
import re
from pathlib import Path

import nbformat
from lessons import CACHE, add_outputs, guides, lessons
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, InclusionLevel
from notebooks import NotBuilt, add_last_pictures, add_parameters, cell_tags, notebook_page, read_built_notebook
from reference import commands_page, import_modules, linkable_names, module_page, parameters_page

from brewcast.cli import build_summary
from brewcast.common.params import env_files, read_env, read_stages, upstream_of
from brewcast.workflow.notebooks import notebooks
from brewcast.workflow.pipeline_picture import StageBox, pipeline_picture

ROOT = Path(__file__).resolve().parent.parent
SOURCE = next(iter(env_files(ROOT)))  # the default source: the site shows its last build
STAGES = read_stages(ROOT, read_env(ROOT))
# notebook by stage, such as "model/13_features" for features
NOTEBOOKS = {name: stage.source.removeprefix("nbs/").removesuffix(".ipynb") for name, stage in STAGES.items()}
GROUPS = {  # title by package, in the order of the navigation
    "common": "Common",
    "data": "Data",
    "model": "Model",
    "delivery": "Delivery",
    "serving": "Serving",
    "registry": "Registry",
    "workflow": "Workflow",
    "operations": "Operations",
    "targets": "Targets",
    "": "Command line",
}
COPIED_PAGES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"]
MERMAID = re.compile(r"(?s)```mermaid.*?```")


def notebook_names() -> list[str]:  # such as "model/13_features"
    "The notebooks by package. In a package the stages come first, in the order of their numbers, then the library."
    names = [path.relative_to(ROOT / "nbs").with_suffix("").as_posix() for path in notebooks(ROOT)]
    return sorted(names, key=lambda name: ([*GROUPS].index(posixpath.dirname(name)), name))


def module_name(
    name: str,  # such as "model/13_features"
) -> str:  # such as "model.features"
    "The module that a notebook exports, without `brewcast.`."
    return re.sub(r"\b\d\d_", "", name).replace("/", ".")


def reference_path(
    module: str,  # such as "model.features"
) -> str:  # such as "brewcast/model/features.md"
    "The reference page of a module, relative to the site."
    return f"brewcast/{module.replace('.', '/')}.md"


def notebook_path(
    name: str,  # such as "model/13_features"
) -> Path:
    "The file of a notebook in nbs/."
    return ROOT / f"nbs/{name}.ipynb"


def executed_path(
    stage: str,  # such as "features"
) -> Path:  # a notebook with outputs
    "The executed notebook that the last build wrote for a stage."
    return ROOT / STAGES[stage].product["nb"]


def on_config(config):
    "Make the navigation: one group per package with one page per notebook, and the same groups for the modules."
    groups, library = {}, {}
    for name in notebook_names():
        group = GROUPS[posixpath.dirname(name)]
        groups.setdefault(group, []).append(f"nbs/{name}.md")
        library.setdefault(group, []).append(reference_path(module_name(name)))
    config.nav = [
        {"Home": "README.md"},
        {
            "Guide": [
                "first-hour.md",
                *(f"{path.stem}.md" for path in guides()),
                "serving.md",
                "month.md",
                "cluster.md",
                "orchestrator.md",
                "scale.md",
                "CONTRIBUTING.md",
                "CHANGELOG.md",
                "LICENSE.md",
            ]
        },
        {"Notebooks": [{title: pages} for title, pages in groups.items()]},
        {"Reference": ["parameters.md", "commands.md", *({title: pages} for title, pages in library.items())]},
    ]
    return config


def on_files(files, config):
    "Add the generated pages. None of them is committed."

    def add(path, content):
        files.append(File.generated(config, path, content=content))

    try:
        for path, content in notebook_pages():
            add(path, content)
    except NotBuilt as error:
        raise PluginError(str(error)) from None
    library = import_modules([module_name(name) for name in notebook_names()])
    for name, module in library.items():
        if doctest.testmod(module).failed:
            raise PluginError(f"brewcast.{name}: an example in a docstring is not true, see above")
    config.extra["names"] = linkable_names(library)
    for name in COPIED_PAGES:
        add(name, (ROOT / name).read_text())
    add("LICENSE.md", f"# Licence\n\n```text\n{(ROOT / 'LICENSE').read_text()}\n```")
    add("parameters.md", parameters_page(ROOT, {stage: f"nbs/{name}.md" for stage, name in NOTEBOOKS.items()}))
    add("commands.md", commands_page(ROOT))
    for name in notebook_names():
        module = module_name(name)
        path = reference_path(module)
        notebook_link = posixpath.relpath(f"nbs/{name}.md", posixpath.dirname(path))
        add(path, module_page(module, name, notebook_link, library[module]))
    for path, product in examples().items():
        files.append(File.generated(config, path, abs_src_path=str(product), inclusion=InclusionLevel.INCLUDED))
    return files


def examples() -> dict[str, Path]:  # product file by its path in the site
    "Products of the last build, unchanged: the month page with the index, reports and tables that it links to, and pictures."
    products = ROOT / "products" / SOURCE
    patterns = ["index.html", "*/*.html", "forecast/*.csv", "explore/figures/*.png"]
    paths = [path for pattern in patterns for path in sorted(products.glob(pattern))]
    return {f"example/{path.relative_to(products).as_posix()}": path for path in paths}


def notebook_pages():
    "Yield pages and pictures of the notebooks: path and content. Stages have the outputs of the last build, too."
    built = {name: read_built_notebook(notebook_path(name), executed_path(stage)) for stage, name in NOTEBOOKS.items()}
    names = notebook_names()
    paths = [*(notebook_path(name) for name in names), *guides()]
    executed = dict(zip(paths, lessons(paths, ROOT, CACHE), strict=True))
    for path in guides():
        text, pictures = notebook_page(executed[path], path.stem, ROOT)
        yield f"{path.stem}.md", text
        yield from pictures.items()
    notebooks_by_name = {name: executed[notebook_path(name)] for name in names}
    for name, product in built.items():
        with_outputs = add_outputs(notebook_path(name), product, notebooks_by_name[name])
        notebooks_by_name[name] = add_parameters(add_last_pictures(with_outputs, product), product)
    for name, notebook in sorted(notebooks_by_name.items()):
        folder, stem = posixpath.split(f"nbs/{name}")
        text, pictures = notebook_page(notebook, stem, ROOT)
        yield f"nbs/{name}.md", under_title(text, notebook_facts(name))
        yield from ((f"{folder}/{path}", content) for path, content in pictures.items())


def under_title(
    text: str,  # a page in Markdown
    line: str,  # what to insert
) -> str:
    "Insert a line below a page's title and subtitle."
    head = re.match(r"# .*\n+(?:>.*\n)*", text)
    return f"{text[: head.end()]}\n{line}\n\n{text[head.end() :].lstrip()}"


def notebook_facts(
    name: str,  # of a notebook
) -> str:  # one line of Markdown
    "A notebook's file and module and, for a stage, its inputs and its products."

    def relative(path):
        return posixpath.relpath(path, posixpath.dirname(f"nbs/{name}"))

    module = module_name(name)
    facts = [f"`nbs/{name}.ipynb`", f"[`brewcast.{module}`]({relative(reference_path(module))})"]
    for stage in [stage for stage, notebook in NOTEBOOKS.items() if notebook == name]:
        inputs = [f"[{other}]({relative(f'nbs/{NOTEBOOKS[other]}.md')})" for other in upstream_of(notebook_path(name))]
        products = [f"`{Path(path).name}`" for key, path in STAGES[stage].product.items() if key != "nb"]
        facts.append(f"reads {', '.join(inputs) or 'the source’s files'}")
        facts.append(f"writes {', '.join(products)}")
        facts.append("[outputs of the last build](#run)")
    return f"{' · '.join(facts)}\n{{ .about }}"


MAX_PRODUCTS_LENGTH = 30  # characters of the products' names; more would not fit into a box


def pipeline_svg() -> str:  # SVG
    "The pipeline, with the source's files before it and what follows after a build."
    arrows, boxes = [], []
    for stage, name in NOTEBOOKS.items():
        upstream = upstream_of(notebook_path(name)) or ["the source's files"]
        arrows += [(other, stage) for other in upstream]
        boxes.append(
            StageBox(stage, products_line([key for key in STAGES[stage].product if key != "nb"]), *page_link(name))
        )
    files = (
        products_line(["CSV", "Parquet", "DuckDB", "SQLite"]),
        "#bring-your-own-data",
        "Bring your own data",
        "outside",
    )
    publish = ("champion · release", *page_link("registry/publish"), "outside")
    service = ("the service", *page_link("serving/app"), "outside")
    boxes = [
        StageBox("the source's files", *files),
        *boxes,
        StageBox("publish", *publish),
        StageBox("POST /forecast", *service),
    ]
    return pipeline_picture(boxes, [*arrows, ([*NOTEBOOKS][-1], "publish"), ("publish", "POST /forecast")])


def products_line(
    products: list[str],  # names
) -> str:
    "As many names of products as fit into a box."
    line = " · ".join(products)
    return line if len(line) <= MAX_PRODUCTS_LENGTH else f"{line[: MAX_PRODUCTS_LENGTH - 1].rsplit(' · ', 1)[0]} …"


def page_link(
    name: str,  # of a notebook
) -> tuple[str, str]:  # address (relative to the home page), title
    "The link to a notebook's page. The title is the notebook's subtitle."
    opening = nbformat.read(notebook_path(name), 4).cells[0].source
    subtitle = re.search(r"(?m)^> (.*)", opening)
    return f"nbs/{name}.html", subtitle[1] if subtitle else name


def on_page_markdown(markdown, page, config, files):
    "Insert pictures and figures of the last build; correct links to LICENSE; link names to the reference."
    if page.file.src_uri == "README.md":
        markdown, n_blocks = MERMAID.subn(lambda _: pipeline_svg(), markdown)
        assert n_blocks == 1, f"README.md: {n_blocks} mermaid blocks; the site replaces exactly one by the pipeline"
    markdown = markdown.replace("](LICENSE)", "](LICENSE.md)").replace("](docs/pages/", "](")
    if "<!-- summary -->" in markdown:
        summary = build_summary(ROOT, SOURCE).replace(f"{ROOT.as_uri()}/", "")
        markdown = markdown.replace("<!-- summary -->", f"```text\n{summary}\n```")
    markdown = re.sub("<!-- injected: (.*) -->", lambda match: injected_parameters(match[1]), markdown)
    return link_names(markdown, page.file.src_uri, config.extra["names"])


def injected_parameters(
    stage: str,  # such as "features"
) -> str:  # Markdown
    "The cell with parameters that the last build injected into a stage's notebook."
    cells = [cell for cell in nbformat.read(executed_path(stage), 4).cells if "injected-parameters" in cell_tags(cell)]
    return f"```python\n{cells[0].source}\n```".replace(f"{ROOT}/", "")


def link_names(
    markdown: str,  # a page
    page_path: str,  # its path in the site
    modules: dict[str, str],  # module by exported name
) -> str:  # with links
    "Link names in backticks to the reference, and notebooks to their pages. Code blocks, titles and links stay."

    def link(match):
        name = match[1].removesuffix("()")
        module, _, last = name.removeprefix("brewcast.").rpartition(".")
        target = None
        if name.startswith("nbs/") and name[4:].removesuffix(".ipynb") in notebook_names():
            target = name.replace(".ipynb", ".md")
        elif modules.get(last) and module in ("", modules[last]):
            target = f"{reference_path(modules[last])}#{last}"
        if target is None or target.split("#")[0] == page_path:
            return match[0]
        return f"[{match[0]}]({posixpath.relpath(target, posixpath.dirname(page_path) or '.')})"

    block_end = None  # the text that ends the current block; None outside of blocks
    lines = []
    for line in markdown.split("\n"):
        block_start = re.match(r"\s*(```+|~~~+|<pre|<div|<svg)", line)
        if block_end:
            block_end = None if block_end in line else block_end
        elif block_start:
            closing = {"<pre": "</pre>", "<div": "</div>", "<svg": "</svg>"}.get(block_start[1], block_start[1])
            block_end = None if closing in line[block_start.end() :] else closing
        elif not line.startswith("#"):
            line = re.sub(r"(?<![\[`\w])`([\w./]+(?:\(\))?)`(?![`\]])", link, line)
        lines.append(line)
    return "\n".join(lines)
