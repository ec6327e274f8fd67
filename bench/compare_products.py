"""Compare the products of two builds by value, type, order and byte, for bench/same_products.py.

The fields of REFERENCES contain hashes of files and ids of releases and builds. They are compared by what they refer to, since
each file is compared itself: a pickle whose class has moved counts as one difference, and the files with its hash do not count.
A hash in any other field is compared as text. A model is unpickled by the library of its own commit; its class, parameters,
fitted attributes and predictions are compared. If only the bytes of a file differ, that counts as a difference, too, unless a
rename or a reference explains it.
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

from brewcast.common.hashing import joint_hash
from brewcast.common.text import format_count

BENCH = Path(__file__).resolve().parent
ACTIVATED_VARIABLES = (  # prefixes of the variables that `. ./activate`, make or a shell may have set
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
TRAINING_ROWS = "train/rows.parquet"  # a model predicts these rows if there is no online.parquet in its folder

REFERENCES = {  # fields that contain a hash or an id, as `file:keys`: what each refers to
    "inputs.json:build_key": "the build itself: its data, code and parameters",
    "dataset.json:*_sha256": "the table in the same folder, or all of its months",
    "dataset.json:partitions/*/sha256": "the month's file in ingest/sales",
    "card.json:model_sha256": "model.joblib in the same folder",
    "card.json:content_hash": "the first digits of the same hash",
    "card.json:data/*": "the tables of features and train that the model was fitted on",
    "card.json:environment/lock": "requirements.lock of the commit; the versions that affect a fit are separate fields",
    "recipe.json:model_sha256": "model.joblib in the same folder",
    "release.json:files/*": "the release's files",
    "release.json:release": "the release that it describes: the hash of its description",
    "release.json:model_version": "the same release",
    "package.json:release": "the release in package/release",
    "package.json:challenger": "the release in package/challenger",
    "package.json:files/*": "the files of package/release",
    "package.json:challenger_files/*": "the files of package/challenger",
    "package.json:made_from/*": "forecast.parquet and verdict.json",
    "package.json:bento/tag": "the release in the Bento",
    "package.json:bento/files/*": "the Bento's files, without its code",
}
BENTO_CODE = "the Bento's code and the list of its modules"
NOT_COMPARED = {  # by pattern of product: the reason why its content is not compared
    "package/bento/src/*.py": BENTO_CODE,
    "package/bento/src/bentofile.yaml": BENTO_CODE,
    "package/bento/bento.yaml": "the Bento's description, which contains the time of the build",
    "*.ipynb": "executed notebooks, which contain times and paths",
    "*.html": "pages, also those of Evidently, which contain times and random ids",
    "*.png": "pictures of data that is compared itself",
    "*/registry.db": "Feast's registry, which contains the time of the build",
    "*/online.db": "Feast's online store: its rows are compared in package/release/online.parquet",
}


# -- renames


class Renames:
    "The map of renames: new names by old names, in sections. Counts how often each entry is used."

    SECTIONS = ("columns", "keys", "files", "modules", "texts")

    def __init__(
        self,
        sections: dict[str, dict[str, str]] | None = None,  # new name by old name, by section
    ):
        unknown = sorted(map(str, set(sections or {}) - set(self.SECTIONS)))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a section: the sections are {', '.join(self.SECTIONS)}")
        self.sections = {section: (sections or {}).get(section) or {} for section in self.SECTIONS}
        self.used = Counter()
        try:
            self.patterns = [(re.compile(old, re.DOTALL), old) for old in self.sections["texts"]]
        except re.error as error:
            raise ValueError(f"texts: {error.pattern!r} is not a regular expression: {error}") from None

    def entry(
        self,
        section: str,  # one of SECTIONS
        old: str,  # the old name of an entry
    ) -> str | None:  # the new name; None without an entry
        "Look up an entry, and count that it is used."
        new = self.sections[section].get(old)
        self.used[section, old] += new is not None
        return new

    def name(
        self,
        section: str,  # columns or keys
        old: str,  # the old name
        file: str,  # its product, by the name in the first commit
    ) -> str:  # the new name
        "The new name of a column or key: from an entry for its product, or else from one for all products."
        return self.entry(section, f"{file}:{old}") or self.entry(section, old) or old

    def path(
        self,
        section: str,  # files or modules
        old: str,  # train/model.joblib, brewcast.model.recipes.Baseline
        separator: str,  # "/" or "."
    ) -> str:  # the new path
        "The new path of a file or class: from the entry for the longest leading part of its path."
        parts = old.split(separator) if self.sections[section] else []
        for n in range(len(parts), 0, -1):
            if new := self.entry(section, separator.join(parts[:n])):
                return separator.join([new, *parts[n:]])
        return old

    def text(
        self,
        old: str,  # a message of the first commit
    ) -> str:  # the message in the words of the second commit
        "Reword a message by the first entry whose pattern matches all of it; \\1, \\2 in the new text are its groups."
        for pattern, entry in self.patterns:
            if match := pattern.fullmatch(old):
                return match.expand(self.entry("texts", entry))
        return old

    def unused(self) -> list[str]:
        "The entries that matched nothing."
        entries = [(section, old) for section, names in self.sections.items() for old in names]
        return [
            f"{section}: {old}: {self.sections[section][old]}"
            for section, old in entries
            if not self.used[section, old]
        ]


def read_renames(
    path: Path | None,  # a YAML file
) -> Renames:
    "Read a map of renames. Raises ValueError if it is not valid."
    try:
        content = (yaml.safe_load(path.read_text()) if path else None) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}, the map of renames, cannot be read: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(names or {}, dict) for names in content.values()):
        raise ValueError(f"{path}: sections are expected, each with lines `old name: new name`")
    for section, names in content.items():
        for old, new in (names or {}).items():
            if not isinstance(new, str):
                raise ValueError(f"{path}: {section}: {old}: a name is expected, not {new!r}")
    try:
        return Renames(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def unique_items(
    items: Iterable[tuple[str, object]],  # (new name, item)
) -> dict[str, object]:  # item by new name
    "Items by name. Raises ValueError if the map gives two items the same name, since one of them would be lost."
    items = list(items)
    if duplicates := [name for name, count in Counter(name for name, _ in items).items() if count > 1]:
        raise ValueError(f"the map of renames gives the name {duplicates[0]!r} to two items")
    return dict(items)


# -- the products of a build


def sha256(path: Path) -> str:
    "The hash of a file's bytes."
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Reference(str):
    "Replaces a hash or an id by what it refers to. Its `repr` has no quotes, so it never equals a text with these words."

    def __repr__(self) -> str:
        return str(self)


class Build:
    "The products of a source, built by one commit. With a map of renames they have the names of the second commit."

    def __init__(
        self,
        root: Path,  # the clone in which it was built
        source: str,  # the name of a source
        renames: Renames | None = None,  # for the first commit's build only
    ):
        self.root, self.renames = Path(root), renames or Renames()
        self.products = self.root / "products" / source
        self.models = {}  # content by (hash of the model, rows): several products contain the same model

    @cached_property
    def files(self) -> dict[str, Path]:
        "Every product by its path in products/<source>/, without the tools' internal files, which start with a dot."
        all_files = (path for path in sorted(self.products.rglob("*")) if path.is_file())
        products = [path for path in all_files if not path.name.startswith(".") and path.suffix != ".pyc"]
        products = [path for path in products if path != self.products / "index.html"]  # it belongs to no stage
        return unique_items((self.renames.path("files", self.old_name(path), "/"), path) for path in products)

    @cached_property
    def references(self) -> dict[str, str]:
        "By hash or id of this build: what it refers to."
        hashes = [(sha256(path), name) for name, path in self.files.items() if skip_reason(name) is None]
        months = {Path(name).name: digest for digest, name in hashes if name.startswith("ingest/sales/")}
        hashes += [(joint_hash(months), "ingest/sales")] if months else []  # of all months together
        hashes.append((sha256(self.root / "requirements.lock"), "requirements.lock"))
        references = {}
        for full_hash, name in hashes:  # two products may be equal
            for digest in (full_hash, full_hash[:12]):
                references[digest] = f"{references[digest]}, {name}" if digest in references else f"the hash of {name}"
        for name, path in self.files.items():
            if path.name == "release.json" and "bento" not in name:
                release = json.loads(path.read_text())["release"]
                references[release] = references[f"brewcast:{release}"] = f"the release in {Path(name).parent}"
            elif name == "inputs.json":
                references[json.loads(path.read_text())["build_key"]] = "this build"
        return references

    def old_name(self, path: Path) -> str:
        "The name of a product in this commit."
        return path.relative_to(self.products).as_posix()

    def name(self, section: str, old: str, file: str) -> str:
        "The name of a product's column or key in the second commit."
        return self.renames.name(section, old, self.old_name(self.files[file]))

    def readable(
        self,
        value: object,  # a JSON product, the output of model_content.py, or a part of one of them
        file: str,  # the product
        location: str = "",  # the keys that lead to the part, joined by /
    ) -> object:  # with the second commit's names, and with a Reference in place of each hash and id
        "Prepare JSON for the comparison."
        prefix = f"{location}/" if location else ""
        if isinstance(value, dict):
            items = [(self.name("keys", key, file), item) for key, item in value.items()]
            compared = [(key, item) for key, item in items if not is_bento_code(f"{Path(file).name}:{prefix}{key}")]
            return unique_items((key, self.readable(item, file, f"{prefix}{key}")) for key, item in compared)
        if isinstance(value, list) and not all(isinstance(item, (int, float)) for item in value):
            return [self.readable(item, file, f"{prefix}{i}") for i, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        if any(fnmatch(f"{Path(file).name}:{location}", pattern) for pattern in REFERENCES):
            return Reference(self.references[value]) if value in self.references else value
        return self.renames.path("modules", value, ".")


def skip_reason(
    file: str,  # a product
) -> str | None:  # None if its content is compared
    "The reason why a product's content is not compared."
    return next((reason for pattern, reason in NOT_COMPARED.items() if fnmatch(file, pattern)), None)


def is_bento_code(
    field: str,  # `file:keys`, such as package.json:bento/files/src/app.py
) -> bool:
    "Is a field the hash of a file of the Bento's code?"
    bento, _, file = field.partition("/files/")
    return bento == "package.json:bento" and skip_reason(f"package/bento/{file}") == BENTO_CODE


# -- one product of both builds: each function returns the first difference as text, or None


class Pair(NamedTuple):
    "A product that both builds have."

    file: str  # its name in the second commit
    before: Build  # the first commit's
    after: Build  # the second's

    @property
    def paths(self) -> list[Path]:
        "The paths of both files, the first commit's first."
        return [build.files[self.file] for build in (self.before, self.after)]

    def column(self, old: str) -> str:
        "The name in the second commit of a column of the first."
        return self.before.name("columns", old, self.file)

    def is_reworded(self, before: object, after: object) -> bool:
        "Are both texts, and is the second one a new name or a new wording of the first?"
        texts = isinstance(before, str) and isinstance(after, str)
        return texts and after in (self.column(before), self.before.renames.text(before))


def compare_names(
    kind: str,  # column or key
    before: list[str],  # the first commit's names
    after: list[str],  # the second commit's names
) -> str | None:
    "Find a name that only one commit has, or another order."
    for names, others, which in ((before, after, "first"), (after, before, "second")):
        for name in names:
            if name not in others:
                return f"{kind} {name!r} is only in the {which} commit"
    return f"{kind}s in another order: {before}, now {after}" if before != after else None


def compare_values(
    before: object,  # JSON
    after: object,  # JSON
    is_reworded: Callable[[object, object], bool],  # Is the second text a new name or a new wording of the first?
    is_ordered: bool,  # Does the order of keys count?
    location: str = "",  # the keys that lead to these values, joined by /
) -> str | None:
    "Compare two JSON values by type, keys and order."
    if type(before) is type(after) and not isinstance(before, dict) and repr(before) == repr(after):
        return None  # unlike ==, repr differs for 1 and 1.0 and for 0.0 and -0.0, and is the same for NaN and NaN
    if isinstance(before, dict) and isinstance(after, dict):
        keys, others = (list(before), list(after)) if is_ordered else (sorted(before), sorted(after))
        if difference := compare_names("key", keys, others):
            return f"{location or 'top level'}: {difference}"
        pairs = ((key, before[key], after[key]) for key in before)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = ((i, *pair) for i, pair in enumerate(zip(before, after, strict=True)))
    else:
        if is_reworded(before, after):
            return None
        return f"{location or 'top level'}: {shorten(before)}, now {shorten(after)}"
    prefix = f"{location}/" if location else ""
    differences = (compare_values(old, new, is_reworded, is_ordered, f"{prefix}{key}") for key, old, new in pairs)
    return next(filter(None, differences), None)


def shorten(
    value: object,  # of a cell or a field
) -> str:  # at most 120 characters and "..."
    "Shorten a value for one line of a report."
    text = format_count(len(value), "item") if isinstance(value, list) else repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."


def compare_json(pair: Pair) -> str | None:
    "Compare two JSON products."
    return compare_contents(pair, *(json.loads(path.read_text()) for path in pair.paths))


def compare_models(pair: Pair) -> str | None:
    "Compare two pickled models."
    return compare_contents(pair, *(model_content(build, pair.file) for build in (pair.before, pair.after)))


def compare_contents(
    pair: Pair,
    old: object,  # content of the first commit's file, as JSON
    new: object,  # content of the second commit's file
) -> str | None:
    "Compare two contents. If they are equal without renames and references, their bytes must be equal, too."
    used = pair.before.renames.used
    uses_before = used.total()
    renamed = pair.before.readable(old, pair.file)
    prepared = pair.after.readable(new, pair.file)
    is_ordered = used.total() == uses_before  # keys are written sorted, so a renamed key changes their order
    if difference := compare_values(renamed, prepared, pair.is_reworded, is_ordered):
        return difference
    return compare_bytes(pair) if json.dumps(old) == json.dumps(new) else None


def model_content(
    build: Build,  # the build that wrote the model
    file: str,  # the model's product
) -> dict:  # model, predictions
    "Read a model's content and its predictions for its own rows, with the library that wrote it."
    model = build.files[file]
    online = model.parent / "online.parquet"
    rows = online if online.exists() else build.files.get(TRAINING_ROWS)
    if not rows:
        raise ValueError(
            f"{file}: {TRAINING_ROWS}, which its predictions need, is missing; "
            f"set the new path as TRAINING_ROWS in {Path(__file__).name}"
        )
    key = (sha256(model), rows)
    if key in build.models:
        return build.models[key]
    command = [build.root / ".venv/bin/python", "-P", BENCH / "model_content.py", model, rows]
    done = subprocess.run(command, cwd=build.root, env=clean_environment(build.root), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{model} cannot be read: {done.stderr.strip()[-2000:]}")
    return build.models.setdefault(key, json.loads(done.stdout))


def compare_tables(pair: Pair) -> str | None:
    "Compare two Parquet products."
    old, new = (pq.ParquetFile(path).read() for path in pair.paths)
    used = pair.before.renames.used
    uses_before = used.total()
    names = [pair.column(name) for name in old.column_names]
    renamed = old.rename_columns(names)
    if difference := compare_names("column", names, new.column_names) or compare_schemas(renamed.schema, new.schema):
        return difference
    if old.num_rows != new.num_rows:
        return f"{format_count(old.num_rows, 'row')}, now {new.num_rows}"
    for name in names:
        if difference := compare_columns(renamed[name], new[name], pair.is_reworded):
            return f"column {name}, {difference}"
    return compare_bytes(pair) if used.total() == uses_before else None


def compare_schemas(
    before: pa.Schema,  # columns of the same names, in the same order
    after: pa.Schema,
) -> str | None:
    "Compare the columns' types and metadata, and the table's metadata."
    for old, new in zip(before, after, strict=True):
        if not old.equals(new, check_metadata=True):
            return f"column {old.name}: {describe_field(old)}, now {describe_field(new)}"
    if before.metadata != after.metadata:
        return f"the table's metadata: {shorten(before.metadata)}, now {shorten(after.metadata)}"
    return None


def describe_field(
    field: pa.Field,  # a column of a schema
) -> str:
    "A column's type, `not null` and metadata."
    not_null = "" if field.nullable else " not null"
    metadata = f" {field.metadata}" if field.metadata else ""
    return f"{field.type}{not_null}{metadata}"


def compare_columns(
    before: pa.ChunkedArray,  # the first commit's column
    after: pa.ChunkedArray,  # the second commit's, of the same type and length
    is_reworded: Callable[[object, object], bool],  # Is the second text a new name or a new wording of the first?
) -> str | None:
    "Compare two columns, row by row."
    if not pa.types.is_floating(before.type) and before.equals(after):  # not for floats: it treats -0.0 as 0.0
        return None
    for row, (old, new) in enumerate(zip(before.to_pylist(), after.to_pylist(), strict=True), 1):
        if repr(old) != repr(new) and not is_reworded(old, new):
            return f"row {row}: {shorten(old)}, now {shorten(new)}"
    return None


def compare_csv(pair: Pair) -> str | None:
    "Compare two CSV products, cell by cell as text."
    (old_header, *old_rows), (new_header, *new_rows) = (read_csv(path) for path in pair.paths)
    used = pair.before.renames.used
    uses_before = used.total()
    names = [pair.column(name) for name in old_header]
    if difference := compare_names("column", names, new_header):
        return difference
    if len(old_rows) != len(new_rows):
        return f"{format_count(len(old_rows), 'row')}, now {len(new_rows)}"
    for row, cells in enumerate(zip(old_rows, new_rows, strict=True), 1):
        for name, old, new in zip_longest(names, *cells):
            if old != new and not pair.is_reworded(old, new):
                return f"column {name}, row {row}: {shorten(old)}, now {shorten(new)}"
    return compare_bytes(pair) if used.total() == uses_before else None


def read_csv(
    path: Path,  # a CSV file
) -> list[list[str]]:  # its lines, the header first
    "Read a CSV file as text, without type inference."
    with open(path, newline="") as file:
        return list(csv.reader(file)) or [[]]


def compare_bytes(pair: Pair) -> str:
    "Describe the difference of two files whose bytes differ, but not the content that is read from them."
    old, new = (path.read_bytes() for path in pair.paths)
    differing = (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    position = next(differing, min(len(old), len(new)))
    return f"only the bytes differ: {len(old)}, now {len(new)}, first at byte {position + 1}"


COMPARISONS = {  # by suffix, in the order in which a stage's differences are reported; other files by their bytes
    ".parquet": compare_tables,
    ".csv": compare_csv,
    ".joblib": compare_models,
    ".json": compare_json,
}


# -- two builds


class Difference(NamedTuple):
    "A product that is not the same."

    stage: str
    file: str  # its name in the second commit
    detail: str  # the first difference in it


def compare(
    before: Build,  # the first commit's
    after: Build,  # the second's
) -> list[Difference]:  # in the order of the second commit's pipeline, tables first
    "Compare every product of two builds."
    differences = []
    for file in sort_files({**before.files, **after.files}, after.root):
        if skip_reason(file) == BENTO_CODE:
            continue
        if detail := first_difference(file, before, after):
            stage = file.split("/")[0] if "/" in file else "inputs"
            differences.append(Difference(stage, file, detail))
    return differences


def sort_files(
    files: Iterable[str],  # products
    root: Path,  # the project, for its pipeline.yaml
) -> list[str]:  # by stage, then by suffix, then by name
    "Sort products by the pipeline's order of stages."
    stages = [task["name"] for task in yaml.safe_load((root / "pipeline.yaml").read_text())["tasks"]]
    rank = {name: i for i, name in enumerate(stages)}
    kinds = {suffix: i for i, suffix in enumerate(COMPARISONS)}

    def sort_key(file):
        return rank.get(file.split("/")[0], -1), kinds.get(Path(file).suffix, len(kinds)), file

    return sorted(files, key=sort_key)


def first_difference(
    file: str,  # a product
    before: Build,  # the first commit's
    after: Build,  # the second's
) -> str | None:
    "The first difference between the two builds in one product."
    if file not in after.files or file not in before.files:
        return f"the file is only in the {'first' if file in before.files else 'second'} commit"
    pair = Pair(file, before, after)
    if skip_reason(file) or filecmp.cmp(*pair.paths, shallow=False):
        return None
    return COMPARISONS.get(Path(file).suffix, compare_bytes)(pair)


def clean_environment(
    root: Path,  # the clone of a commit
) -> dict[str, str]:
    "The variables of a shell in which no project is activated; imports come from this clone, not the installed library."
    variables = {name: value for name, value in os.environ.items() if not name.startswith(ACTIVATED_VARIABLES)}
    for name in ("SOURCE", "DATA"):  # make would use them as its own variables
        variables.pop(name, None)
    return variables | {"PYTHONPATH": str(root)}
