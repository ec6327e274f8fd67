"""A DAG of the pipeline's shape, whose stages only hash and write files: it measures the overhead of each tool.

`write_*` creates a project for one tool. In each of them, the body of a stage is `run`. This file is copied into each project.
"""

import hashlib
import json
import sys
from pathlib import Path


def content(inputs: list[bytes], name: str, size: int) -> bytes:
    "Bytes that depend on all inputs."
    return hashlib.shake_256(b"".join(hashlib.sha256(one).digest() for one in inputs) + name.encode()).digest(size)


def files_below(path: str | Path) -> list[Path]:
    "The file itself, or all files of a folder."
    path = Path(path)
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def run(reads: list[str], makes: dict[str, dict[str, int]]) -> None:
    "Read files and folders; write files of these sizes: by path, by name within it (empty for the path itself)."
    inputs = [file.read_bytes() for path in reads for file in files_below(path)]
    for path, sizes in makes.items():
        for name, size in sizes.items():
            file = Path(path) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content(inputs, file.name, size))


def shape_of(root: Path, stages: dict[str, dict]) -> dict[str, dict]:
    "By stage, of a built project: upstream stages, files read, and the size of each file of each product."
    shape = {}
    for name, stage in stages.items():
        values = [value for value in stage["params"].values() if isinstance(value, str)]
        paths = [value for value in values if "/" in value and not value.startswith("products")]
        product = {key: Path(path) for key, path in stage["params"]["product"].items()}
        shape[name] = {
            "upstream": stage["upstream"],
            "reads": [path for path in paths if (root / path).exists()],
            "makes": {
                key: [
                    str(path.relative_to(root)),
                    {_relative_name(file, path): file.stat().st_size for file in files_below(path)},
                ]
                for key, path in product.items()
            },
        }
    return shape


def _relative_name(file, path):
    return "" if file == path else file.relative_to(path).as_posix()


def product_sizes(stage: dict) -> dict[str, dict[str, int]]:
    "Sizes by path of the product, by file name."
    return dict(stage["makes"].values())


def write_notebooks(root: Path, stages: dict[str, dict], shape: dict[str, dict]) -> None:
    "For Brewcast and Ploomber, in a working copy: its pipeline.yaml stays as it is."
    import nbformat.v4 as v4

    for name, stage in shape.items():
        parameters = [key for key in stages[name]["params"] if key not in ("upstream", "product")]
        makes = {key: sizes for key, (_, sizes) in stage["makes"].items() if key != "nb"}
        cells = [
            f"upstream = {json.dumps(stage['upstream'])}\nproduct = None\n"
            + "\n".join(f"{key} = None" for key in parameters),
            f"from toy import run\n\nreads = {stage['reads']} + [p for one in upstream.values() for p in one.values()]\n"
            f"makes = {makes}\nrun(reads, {{product[key]: sizes for key, sizes in makes.items()}})",
        ]
        notebook = v4.new_notebook(cells=[v4.new_code_cell(text, id=f"{name}-{i}") for i, text in enumerate(cells)])
        notebook.cells[0].metadata["tags"] = ["parameters"]
        if not stage["upstream"]:
            notebook.cells[0].source = notebook.cells[0].source.replace("[]", "None", 1)
            notebook.cells[1].source = notebook.cells[1].source.replace(
                "upstream.values()", "(upstream or {}).values()"
            )
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        (root / stages[name]["notebook"]).write_text(json.dumps(notebook, indent=1) + "\n")


def write_dvc(root: Path, shape: dict[str, dict]) -> None:
    "Write dvc.yaml: one command per stage, with its inputs and outputs."
    stages = {}
    for name, stage in shape.items():
        upstream = [path for one in stage["upstream"] for path in product_sizes(shape[one])]
        stages[name] = {"cmd": f"python toy.py {name}", "deps": ["toy.py", *stage["reads"], *upstream]}
        stages[name] |= {"params": [f"{name}.value"], "outs": list(product_sizes(stage))}
    (root / "dvc.yaml").write_text(json.dumps({"stages": stages}))  # JSON is YAML
    (root / "params.yaml").write_text(json.dumps({name: {"value": 1} for name in shape}))
    (root / "shape.json").write_text(json.dumps(shape))


def write_kedro(root: Path, shape: dict[str, dict], version: str) -> None:
    "Write a Kedro project: one node per stage, one dataset per file."
    files = {path for stage in shape.values() for path in kedro_files(stage)}
    raw = {str(p) for stage in shape.values() for path in stage["reads"] for p in files_below(root / path)}
    catalog = {dataset_name(p): {"type": "toy_kedro.datasets.Bytes", "filepath": p} for p in sorted(files)}
    catalog |= {
        dataset_name(str(Path(p).relative_to(root))): {"type": "toy_kedro.datasets.Bytes", "filepath": p} for p in raw
    }
    texts = {
        "pyproject.toml": f'[tool.kedro]\npackage_name = "toy_kedro"\nproject_name = "toy"\nkedro_init_version = "{version}"\n',
        "conf/base/catalog.yml": json.dumps(catalog),
        "conf/base/parameters.yml": json.dumps({name: 1 for name in shape}),
        "conf/local/credentials.yml": "{}",
        "src/toy_kedro/__init__.py": "",
        "src/toy_kedro/settings.py": "",
        "src/toy_kedro/datasets.py": KEDRO_DATASETS,
        "src/toy_kedro/pipeline_registry.py": KEDRO_PIPELINES,
        "shape.json": json.dumps(shape),
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def kedro_files(stage: dict) -> dict[str, int]:
    "Each file that a stage writes, and its size."
    return {
        str(Path(path) / name): size for path, sizes in product_sizes(stage).items() for name, size in sizes.items()
    }


def dataset_name(path: str) -> str:
    "A path as the name of a dataset."
    return "".join(c if c.isalnum() else "_" for c in path)


KEDRO_DATASETS = """
from pathlib import Path

from kedro.io import AbstractDataset


class Bytes(AbstractDataset):
    def __init__(self, filepath):
        self.path = Path(filepath)

    def _load(self):
        return self.path.read_bytes()

    def _save(self, data):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(data)

    def _exists(self):
        return self.path.exists()

    def _describe(self):
        return {"filepath": str(self.path)}
"""
KEDRO_PIPELINES = """
import json
from pathlib import Path

from kedro.pipeline import Pipeline, node
from toy import content, dataset_name, files_below, kedro_files

SHAPE = json.loads(Path("shape.json").read_text())


def body(stage):
    files = kedro_files(stage)
    return lambda parameter, *inputs: [content(list(inputs), Path(path).name, size) for path, size in files.items()]


def register_pipelines():
    nodes = []
    for name, stage in SHAPE.items():
        reads = [str(file) for path in stage["reads"] for file in files_below(path)]
        reads += [path for one in stage["upstream"] for path in kedro_files(SHAPE[one])]
        outputs = [dataset_name(path) for path in kedro_files(stage)]
        nodes.append(node(body(stage), [f"params:{name}", *map(dataset_name, reads)], outputs, name=name))
    return {"__default__": Pipeline(nodes)}
"""

if __name__ == "__main__":
    shape = json.loads(Path("shape.json").read_text())
    stage = shape[sys.argv[1]]
    upstream = [path for one in stage["upstream"] for path in product_sizes(shape[one])]
    run([*stage["reads"], *upstream], product_sizes(stage))
