"""Two builds' products beside each other, by value, type, order and byte: what bench/same_products.py compares with.

A hash, or the name of a release or a build, is compared by what it names, in the fields of REFERENCES: each file is compared
itself, so that a pickle whose class has moved differs in itself, and not in all that hold its hash. A hash in any other field
is compared as it stands. A model is unpickled, by its own commit's library, and compared by its class, its parameters, what
it has learned and what it predicts. Bytes that differ alone are a difference, unless a rename or a reference explains them.
"""

import csv
import filecmp
import hashlib
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from brewcast.common.text import format_count

BENCH = Path(__file__).resolve().parent
ACTIVATED = (
    "PLOOMBER_",
    "BREWCAST_",
    "MLFLOW_",
    "BENTOML_",
    "JUPYTER_CONFIG",
    "PYTHON",
    "MAKE",
    "MFLAGS",
    "VIRTUAL_ENV",
)
ROWS = "train/rows.parquet"  # what a model is asked where no online.parquet lies beside it

REFERENCES = {  # fields, as `file:keys`, that hold a hash or an id: each with what it names
    "inputs.json:build_key": "the build itself: its data, code and parameters",
    "dataset.json:*_sha256": "the table beside it",
    "card.json:model_sha256": "model.joblib beside it",
    "card.json:content_hash": "the same, its first digits",
    "card.json:data/*": "the tables of features and train that the model was fitted on",
    "card.json:environment/lock": "requirements.lock of the commit; the versions that matter to a fit stand beside it",
    "recipe.json:model_sha256": "model.joblib beside it",
    "release.json:files/*": "the release's files",
    "release.json:release": "the release that it describes: the hash of all that it says",
    "release.json:model_version": "the same release",
    "package.json:release": "the release in package/release",
    "package.json:challenger": "the release in package/challenger",
    "package.json:files/*": "the files of package/release",
    "package.json:challenger_files/*": "the files of package/challenger",
    "package.json:made_from/*": "forecast.parquet and verdict.json",
    "package.json:bento/tag": "the release in the Bento",
    "package.json:bento/files/*": "the Bento's files, its code aside",
}
CODE = "the Bento's code, and what says which modules it is"
NOT_COMPARED = {  # products: why their content is not compared
    "package/bento/src/*.py": CODE,
    "package/bento/src/bentofile.yaml": CODE,
    "package/bento/bento.yaml": "the Bento's description, which holds the time of day",
    "*.ipynb": "executed notebooks, which hold clocks and paths",
    "*.html": "pages, Evidently's among them, which hold clocks and random names",
    "*.png": "pictures of what is compared",
    "*/registry.db": "Feast's registry, which holds the time of day",
    "*/online.db": "Feast's online store: package/release/online.parquet holds its rows",
}


# -- renames


class Renames:
    "What the second commit calls otherwise, by section; counts what is used."

    SECTIONS = ("columns", "keys", "files", "modules", "texts")

    def __init__(
        self,
        sections: dict[str, dict[str, str]] | None = None,  # new name by old name, by section
    ):
        unknown = sorted(map(str, set(sections or {}) - set(self.SECTIONS)))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no section: there are {', '.join(self.SECTIONS)}")
        self.sections = {section: (sections or {}).get(section) or {} for section in self.SECTIONS}
        self.used = Counter()
        try:
            self.patterns = [(re.compile(old, re.DOTALL), old) for old in self.sections["texts"]]
        except re.error as error:
            raise ValueError(f"texts: {error.pattern!r} is not a regular expression: {error}") from None

    def entry(
        self,
        section: str,  # one of SECTIONS
        old: str,  # an entry's left side
    ) -> str | None:  # its right side, where there is one
        "Use one entry."
        new = self.sections[section].get(old)
        self.used[section, old] += new is not None
        return new

    def name(
        self,
        section: str,  # columns or keys
        old: str,  # a name
        file: str,  # the product that it stands in, as the first commit calls it
    ) -> str:  # the new name
        "What a column or key is called now: by an entry for its product, or for all."
        return self.entry(section, f"{file}:{old}") or self.entry(section, old) or old

    def path(
        self,
        section: str,  # files or modules
        old: str,  # train/model.joblib, brewcast.model.recipes.Baseline
        separator: str,  # "/" or "."
    ) -> str:  # the new path
        "Where a file or class lies now: by the entry for the longest part of its path."
        parts = old.split(separator) if self.sections[section] else []
        for n in range(len(parts), 0, -1):
            if new := self.entry(section, separator.join(parts[:n])):
                return separator.join([new, *parts[n:]])
        return old

    def text(
        self,
        old: str,  # a value that is a message
    ) -> str:  # how the second commit words it
        "A message by the first entry whose pattern matches all of it; its groups stand in the new text as \\1, \\2."
        for pattern, entry in self.patterns:
            if found := pattern.fullmatch(old):
                return found.expand(self.entry("texts", entry))
        return old

    def unused(self) -> list[str]:
        "The entries that nothing was found for."
        entries = [(section, old) for section, names in self.sections.items() for old in names]
        return [
            f"{section}: {old}: {self.sections[section][old]}"
            for section, old in entries
            if not self.used[section, old]
        ]


def read_renames(
    path: Path | None,  # a YAML file
) -> Renames:
    "Read a map. Raises ValueError where it is none."
    try:
        content = (yaml.safe_load(path.read_text()) if path else None) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}, the map of renames, cannot be read: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(names or {}, dict) for names in content.values()):
        raise ValueError(f"{path}: sections are expected, each with new names by old ones")
    for section, names in content.items():
        for old, new in (names or {}).items():
            if not isinstance(new, str):
                raise ValueError(f"{path}: {section}: {old}: a name is expected, not {new!r}")
    try:
        return Renames(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def unique(
    items: Iterable[tuple[str, object]],  # new name and what bears it
) -> dict[str, object]:
    "Items by name. Raises ValueError where the map gives two one name: one of them would be lost."
    items = list(items)
    if twice := [name for name, count in Counter(name for name, _ in items).items() if count > 1]:
        raise ValueError(f"the map of renames gives the name {twice[0]!r} to two")
    return dict(items)


# -- what two builds made


def sha256(path: Path) -> str:
    "The hash of a file's bytes."
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Named(str):
    "What a hash or an id names, in its place: never equal to a text that reads the same."

    def __repr__(self) -> str:
        return str(self)


class Build:
    "A source's products, as one commit made them; under the second commit's names, where a map says so."

    def __init__(
        self,
        root: Path,  # where the commit lies and was built
        source: str,  # a source's name
        renames: Renames | None = None,  # of the first commit
    ):
        self.root, self.renames = Path(root), renames or Renames()
        self.products = self.root / "products" / source
        self.models = {}  # what was read of a model: several products hold the same one

    @cached_property
    def files(self) -> dict[str, Path]:
        "Every product by its name, in products/<source>/: what starts with a dot are the tools' own notes."
        found = (path for path in sorted(self.products.rglob("*")) if path.is_file())
        kept = [path for path in found if not path.name.startswith(".") and path.suffix != ".pyc"]
        return unique((self.renames.path("files", self.old_name(path), "/"), path) for path in kept)

    @cached_property
    def names(self) -> dict[str, str]:
        "What each hash and id of this build names."
        hashes = [(sha256(path), name) for name, path in self.files.items() if not_compared(name) is None]
        hashes.append((sha256(self.root / "requirements.lock"), "requirements.lock"))
        named = {}
        for digest, name in hashes:  # two products may be equal
            for hashed in (digest, digest[:12]):
                named[hashed] = f"{named[hashed]}, {name}" if hashed in named else f"the hash of {name}"
        for name, path in self.files.items():
            if path.name == "release.json" and "bento" not in name:
                release = json.loads(path.read_text())["release"]
                named[release] = named[f"brewcast:{release}"] = f"the release in {Path(name).parent}"
            elif name == "inputs.json":
                named[json.loads(path.read_text())["build_key"]] = "this build"
        return named

    def old_name(self, path: Path) -> str:
        "A product as this commit calls it."
        return path.relative_to(self.products).as_posix()

    def name(self, section: str, old: str, file: str) -> str:
        "A column or key of a product, as the second commit calls it."
        return self.renames.name(section, old, self.old_name(self.files[file]))

    def readable(
        self,
        value: object,  # a JSON product or model_content.py's answer, or a part of it
        file: str,  # the product
        at: str = "",  # the part's keys, joined by /
    ) -> object:  # the same under the second commit's names, and with what is named in place of hashes and ids
        "JSON as it is compared."
        inside = f"{at}/" if at else ""
        if isinstance(value, dict):
            items = [(self.name("keys", key, file), item) for key, item in value.items()]
            kept = [(key, item) for key, item in items if not is_code(f"{Path(file).name}:{inside}{key}")]
            return unique((key, self.readable(item, file, f"{inside}{key}")) for key, item in kept)
        if isinstance(value, list) and not all(isinstance(item, (int, float)) for item in value):
            return [self.readable(item, file, f"{inside}{i}") for i, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        if any(fnmatch(f"{Path(file).name}:{at}", pattern) for pattern in REFERENCES):
            return Named(self.names[value]) if value in self.names else value
        return self.renames.path("modules", value, ".")


def not_compared(
    file: str,  # a product
) -> str | None:  # why
    "Whether a product's content is left out."
    return next((why for pattern, why in NOT_COMPARED.items() if fnmatch(file, pattern)), None)


def is_code(
    field: str,  # as in REFERENCES
) -> bool:
    "Whether a field is the hash of a Bento's code."
    bento, _, file = field.partition("/files/")
    return bento == "package.json:bento" and not_compared(f"package/bento/{file}") == CODE


# -- a product beside the same of the other build: each function says where the two first differ, or None


class Pair(NamedTuple):
    "A product that both builds have."

    file: str  # as the second commit calls it
    before: Build  # the first commit's
    after: Build  # the second's

    @property
    def paths(self) -> list[Path]:
        "Where the two lie."
        return [build.files[self.file] for build in (self.before, self.after)]

    def column(self, old: str) -> str:
        "What the second commit calls a column of the first's."
        return self.before.name("columns", old, self.file)

    def is_reworded(self, before: object, after: object) -> bool:
        "Is a text the other one, under a new name or in new words?"
        texts = isinstance(before, str) and isinstance(after, str)
        return texts and after in (self.column(before), self.before.renames.text(before))


def compare_names(
    kind: str,  # column or key
    before: list[str],  # the first commit's
    after: list[str],  # the second's
) -> str | None:
    "Names that only one has, or their order."
    for names, others, which in ((before, after, "first"), (after, before, "second")):
        for name in names:
            if name not in others:
                return f"{kind} {name!r} is only in the {which} commit's"
    return f"{kind}s in another order: {before}, now {after}" if before != after else None


def compare_values(
    before: object,  # JSON
    after: object,  # JSON
    is_reworded: Callable[[object, object], bool],  # Is a text the other one in other words? See `Pair.is_reworded`
    ordered: bool,  # Does the order of keys count?
    at: str = "",  # keys so far
) -> str | None:
    "Two JSON values, by type, key and order."
    if type(before) is type(after) and not isinstance(before, dict) and repr(before) == repr(after):
        return None  # repr tells 1 from 1.0 and -0.0 from 0.0, and NaN is NaN
    if isinstance(before, dict) and isinstance(after, dict):
        keys, others = (list(before), list(after)) if ordered else (sorted(before), sorted(after))
        if difference := compare_names("key", keys, others):
            return f"{at or 'at the top'}: {difference}"
        pairs = ((key, before[key], after[key]) for key in before)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = ((i, *pair) for i, pair in enumerate(zip(before, after, strict=True)))
    else:
        return None if is_reworded(before, after) else f"{at or 'at the top'}: {short(before)}, now {short(after)}"
    inside = f"{at}/" if at else ""
    found = (compare_values(one, two, is_reworded, ordered, f"{inside}{key}") for key, one, two in pairs)
    return next(filter(None, found), None)


def short(
    value: object,  # of a cell or a field
) -> str:
    "A value for a line of text."
    text = format_count(len(value), "item") if isinstance(value, list) else repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."


def compare_json(pair: Pair) -> str | None:
    "Two JSON products."
    return compare_contents(pair, *(json.loads(path.read_text()) for path in pair.paths))


def compare_models(pair: Pair) -> str | None:
    "Two pickled models."
    return compare_contents(pair, *(model_content(build, pair.file) for build in (pair.before, pair.after)))


def compare_contents(
    pair: Pair,
    one: object,  # what the first commit's holds, as JSON
    two: object,  # what the second's holds
) -> str | None:
    "Two contents as they are compared. Where they were equal before that, their bytes must be, too."
    used = pair.before.renames.used
    count = used.total()
    renamed, other = pair.before.readable(one, pair.file), pair.after.readable(two, pair.file)
    ordered = used.total() == count  # keys are written sorted: one that is renamed lies elsewhere
    if difference := compare_values(renamed, other, pair.is_reworded, ordered):
        return difference
    return bytes_alone(pair) if json.dumps(one) == json.dumps(two) else None


def model_content(
    build: Build,  # that wrote the model
    file: str,  # the model
) -> dict:  # see bench/model_content.py
    "What a model holds and predicts on its product's own rows, by the library that wrote it."
    model = build.files[file]
    online = model.parent / "online.parquet"
    rows = online if online.exists() else build.files.get(ROWS)
    if not rows:
        raise ValueError(f"{file}: there is no {ROWS} to ask it by; say where it lies now in {Path(__file__).name}")
    asked = (sha256(model), rows)
    if asked in build.models:
        return build.models[asked]
    command = [build.root / ".venv/bin/python", "-P", BENCH / "model_content.py", model, rows]
    done = subprocess.run(command, cwd=build.root, env=fresh_shell(build.root), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{model} cannot be read: {done.stderr.strip()[-2000:]}")
    return build.models.setdefault(asked, json.loads(done.stdout))


def compare_tables(pair: Pair) -> str | None:
    "Two Parquet products."
    one, two = (pq.ParquetFile(path).read() for path in pair.paths)
    used = pair.before.renames.used
    count = used.total()
    names = [pair.column(name) for name in one.column_names]
    renamed = one.rename_columns(names)
    if difference := compare_names("column", names, two.column_names) or compare_schemas(renamed.schema, two.schema):
        return difference
    if one.num_rows != two.num_rows:
        return f"{format_count(one.num_rows, 'row')}, now {two.num_rows}"
    for name in names:
        if difference := compare_columns(renamed[name], two[name], pair.is_reworded):
            return f"column {name}, {difference}"
    return bytes_alone(pair) if used.total() == count else None


def compare_schemas(
    before: pa.Schema,  # columns of the same names, in the same order
    after: pa.Schema,
) -> str | None:
    "Types and metadata of columns, and the table's metadata."
    for one, two in zip(before, after, strict=True):
        if not one.equals(two, check_metadata=True):
            return f"column {one.name}: {described(one)}, now {described(two)}"
    if before.metadata != after.metadata:
        return f"the table's metadata: {short(before.metadata)}, now {short(after.metadata)}"
    return None


def described(
    field: pa.Field,  # a column of a schema
) -> str:
    "A column's type, and what else its schema says."
    return f"{field.type}{'' if field.nullable else ' not null'}{f' {field.metadata}' if field.metadata else ''}"


def compare_columns(
    before: pa.ChunkedArray,  # of the same type and length
    after: pa.ChunkedArray,
    is_reworded: Callable[[object, object], bool],  # as in `compare_values`
) -> str | None:
    "Two columns, row by row."
    if not pa.types.is_floating(before.type) and before.equals(after):  # which takes -0.0 for 0.0
        return None
    for row, (one, two) in enumerate(zip(before.to_pylist(), after.to_pylist(), strict=True), 1):
        if repr(one) != repr(two) and not is_reworded(one, two):
            return f"row {row}: {short(one)}, now {short(two)}"
    return None


def compare_csv(pair: Pair) -> str | None:
    "Two CSV products: what they hold is text."
    (old, *one), (head, *two) = (read_csv(path) for path in pair.paths)
    used = pair.before.renames.used
    count = used.total()
    names = [pair.column(name) for name in old]
    if difference := compare_names("column", names, head):
        return difference
    if len(one) != len(two):
        return f"{format_count(len(one), 'row')}, now {len(two)}"
    for row, cells in enumerate(zip(one, two, strict=True), 1):
        for name, a, b in zip_longest(names, *cells):
            if a != b and not pair.is_reworded(a, b):
                return f"column {name}, row {row}: {short(a)}, now {short(b)}"
    return bytes_alone(pair) if used.total() == count else None


def read_csv(
    path: Path,  # a CSV file
) -> list[list[str]]:  # its lines, the header first
    "A CSV file as text, without a guess at types."
    with open(path, newline="") as file:
        return list(csv.reader(file)) or [[]]


def bytes_alone(pair: Pair) -> str:
    "What is said where nothing that is read differs."
    one, two = (path.read_bytes() for path in pair.paths)
    at = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    return f"the bytes alone differ: {len(one)}, now {len(two)}, first at byte {at + 1}"


READERS = {  # by suffix, in the order in which a stage's differences are told; others are compared by their bytes
    ".parquet": compare_tables,
    ".csv": compare_csv,
    ".joblib": compare_models,
    ".json": compare_json,
}


# -- two builds


class Difference(NamedTuple):
    "A product that is not the same."

    stage: str
    file: str  # as the second commit calls it
    detail: str


def compare(
    before: Build,  # the first commit's
    after: Build,  # the second's
) -> list[Difference]:  # in the order of the second commit's pipeline, tables first
    "Every product of two builds."
    found = []
    for file in in_order({**before.files, **after.files}, after.root):
        if not_compared(file) == CODE:
            continue
        if detail := first_difference(file, before, after):
            found.append(Difference(file.split("/")[0] if "/" in file else "inputs", file, detail))
    return found


def in_order(
    files: Iterable[str],  # products
    root: Path,  # the project
) -> list[str]:  # by stage, then by kind
    "The order in which one product follows from another, as far as it is declared."
    stages = [task["name"] for task in yaml.safe_load((root / "pipeline.yaml").read_text())["tasks"]]
    rank = {name: i for i, name in enumerate(stages)}
    kinds = {suffix: i for i, suffix in enumerate(READERS)}

    def place(file):
        return rank.get(file.split("/")[0], -1), kinds.get(Path(file).suffix, len(kinds)), file

    return sorted(files, key=place)


def first_difference(
    file: str,  # a product
    before: Build,  # the first commit's
    after: Build,  # the second's
) -> str | None:
    "Where a product first differs from the same of the other build."
    if file not in after.files or file not in before.files:
        return f"the file is only in the {'first' if file in before.files else 'second'} commit's"
    pair = Pair(file, before, after)
    if not_compared(file) or filecmp.cmp(*pair.paths, shallow=False):
        return None
    return READERS.get(Path(file).suffix, bytes_alone)(pair)


def fresh_shell(
    root: Path,  # where a commit lies
) -> dict[str, str]:
    "The environment of a shell in which nothing is activated; this root's library, not the one that is installed."
    own = {name: value for name, value in os.environ.items() if not name.startswith(ACTIVATED)}
    for name in ("SOURCE", "DATA"):  # what make would take for its own
        own.pop(name, None)
    return own | {"PYTHONPATH": str(root)}
