"`make docs`: the site in _docs/, made in scratch/docs/ and moved in whole, unless nothing has changed."

import hashlib
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from brewcast.common.lock import project_lock
from brewcast.common.params import TELEMETRY_OFF, env_files

ROOT = Path(__file__).resolve().parent.parent
SITE, SCRATCH = ROOT / "_docs", ROOT / "scratch/docs"
SOURCE = next(iter(env_files(ROOT)))  # the default one
LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}


class Links(HTMLParser):
    "What a page links to and loads, and the marks that it can be linked at."

    def __init__(
        self,
        path: Path,  # an HTML file
    ):
        super().__init__()
        self.links, self.loads, self.marks = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        "Note a tag's links and its mark."
        for name, value in attrs:
            if name in ("href", "src") and value:
                (self.loads if (tag, name) in LOADS else self.links).append(value)
            elif name == "id" or (name, tag) == ("name", "a"):
                self.marks.add(value)


def broken_links(
    site: Path,  # a built site
) -> list[str]:  # one line each
    "Links that lead nowhere, and whatever a page would load from another host."
    pages = {path: Links(path) for path in sorted(site.rglob("*.html"))}
    wrong = []
    for path, found in pages.items():
        for link in [*found.links, *found.loads]:
            parts = urlsplit(link)
            said = f"{path.relative_to(site)}: {link}"
            if parts.scheme or parts.netloc:
                if link in found.loads and parts.scheme != "data":
                    wrong.append(f"{said} is loaded from elsewhere")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                wrong.append(f"{said} leads nowhere")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].marks:
                wrong.append(f"{said}: there is no such place on that page")
    return wrong


def content_key() -> str:  # hex digest
    "A hash of all that the site is made from."
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
    whole = hashlib.sha256(str(ROOT).encode())
    for path in sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
        if path.is_file() and "__pycache__" not in path.parts:
            whole.update(f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def make_site(
    target: Path,  # a folder, which is made anew
) -> int:  # exit status
    "Build the site and check every link."
    shutil.rmtree(target, ignore_errors=True)
    told = TELEMETRY_OFF | {
        "PYTHONHASHSEED": "0",
        "NO_MKDOCS_2_WARNING": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    config = ROOT / "docs/mkdocs.yml"
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(target)]
    done = subprocess.run(line, cwd=ROOT, env=os.environ | told, stderr=subprocess.PIPE, text=True)
    said = [line for line in done.stderr.splitlines() if line and not line.startswith("INFO")]  # -q would hide warnings
    print("\n".join(said), end="\n" if said else "", file=sys.stderr)
    status = done.returncode
    if status == 0:
        for name in ("404.html", "sitemap.xml", "sitemap.xml.gz"):  # for a site at an address of its own
            (target / name).unlink(missing_ok=True)
        wrong = broken_links(target)
        print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
        status = 1 if wrong else 0
    return status


def main() -> int:  # exit status
    "Make the site, unless it is there and nothing has changed."
    kept = SITE / ".key"
    with project_lock(ROOT, SOURCE, "docs"):  # no build changes what is being shown
        key = content_key()
        if not kept.exists() or kept.read_text() != key:
            new, old = SCRATCH / "site", SCRATCH / "old"
            if make_site(new):
                return 1
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
