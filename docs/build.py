"`make docs`: build the site in scratch/docs/ and move it to _docs/ as a whole. Without changes nothing is built."

import hashlib
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from screenshots import screenshots_key, show_last_build

from brewcast.common.lock import project_lock
from brewcast.common.params import TELEMETRY_OFF, env_files

ROOT = Path(__file__).resolve().parent.parent
SITE, SCRATCH = ROOT / "_docs", ROOT / "scratch/docs"
SOURCE = next(iter(env_files(ROOT)))  # the first source is the default one
LOADING_ATTRIBUTES = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}


class Links(HTMLParser):
    "The links of a page, the files that it loads, and its anchors."

    def __init__(
        self,
        path: Path,  # an HTML file
    ):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        "Collect the links and the anchor of a tag."
        for name, value in attrs:
            if name in ("href", "src") and value:
                (self.loads if (tag, name) in LOADING_ATTRIBUTES else self.links).append(value)
            elif name == "id" or (name, tag) == ("name", "a"):
                self.anchors.add(value)


def broken_links(
    site: Path,  # folder of a built site
) -> list[str]:  # one line per problem: page, link, what is wrong
    "Links whose target does not exist, and files that a page would load from another host."
    pages = {path: Links(path) for path in sorted(site.rglob("*.html"))}
    problems = []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            location = f"{path.relative_to(site)}: {link}"
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    problems.append(f"{location} is loaded from another host")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                problems.append(f"{location} does not exist")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                problems.append(f"{location}: that page has no such anchor")
    return problems


def content_key() -> str:  # hex digest
    "A hash of all files that the site is made from."
    patterns = [
        "docs/**/*",
        "nbs/**/*.ipynb",
        "brewcast/**/*",
        "*.md",
        "*.yaml",
        "LICENSE",
        "Makefile",
        "requirements.lock",
    ]
    patterns += [f"products/{SOURCE}/{kind}" for kind in ("*/*.ipynb", "*/*.html", "*/*.csv", "*/figures/*.png")]
    digest = hashlib.sha256(f"{ROOT} {screenshots_key()}".encode())
    for path in sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
        if path.is_file() and "__pycache__" not in path.parts:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(ROOT)} {content}\n".encode())
    return digest.hexdigest()


def print_errors(
    lines: list[str],  # messages
) -> None:
    "Print lines to stderr, if there are any."
    if lines:
        print("\n".join(lines), file=sys.stderr)


def make_site(
    target: Path,  # the folder for the site; an old one is removed
) -> int:  # exit status
    "Build the site and check every link."
    shutil.rmtree(target, ignore_errors=True)
    environment = {
        **os.environ,
        **TELEMETRY_OFF,
        "PYTHONHASHSEED": "0",
        "NO_MKDOCS_2_WARNING": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    config = ROOT / "docs/mkdocs.yml"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(target)]
    result = subprocess.run(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    # MkDocs' option -q would hide warnings, too
    print_errors([line for line in result.stderr.splitlines() if line and not line.startswith("INFO")])
    if result.returncode != 0:
        return result.returncode
    for name in ("404.html", "sitemap.xml", "sitemap.xml.gz"):  # only a site with its own web address needs these
        (target / name).unlink(missing_ok=True)
    problems = broken_links(target)
    print_errors(problems)
    return 1 if problems else 0


def main() -> int:  # exit status
    "Build the site, unless it exists and nothing has changed."
    key_file = SITE / ".key"
    with project_lock(ROOT, SOURCE, "docs"):  # no build may change the products while the site is made from them
        key = content_key()
        if not key_file.exists() or key_file.read_text() != key:
            new, old = SCRATCH / "site", SCRATCH / "old"
            if make_site(new):
                return 1
            print_errors(show_last_build(new / "images"))
            (new / ".key").write_text(key)
            shutil.rmtree(old, ignore_errors=True)
            if SITE.exists():
                SITE.rename(old)
            new.rename(SITE)
            shutil.rmtree(old, ignore_errors=True)
    print((SITE / "index.html").as_uri())
    return 0


if __name__ == "__main__":
    sys.exit(main())
