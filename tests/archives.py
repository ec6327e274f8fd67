"Small OCI archives for tests, and a project with an image that fits it."

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import yaml
from conftest import ROOT

LAYER = "application/vnd.oci.image.layer.v1.tar"
RELEASE, OTHER_RELEASE = "1f0c3a9b2e4d", "77aa00bb11cc"
PACKAGES = {"numpy": "2.4.6", "uvicorn": "0.35.0"}  # of a toy lock
MODULES = ("brewcast/__init__.py", "brewcast/serving/app.py")


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def tar_of(files: dict[str, bytes | str | None]) -> bytes:
    "A tar file: content by path; None is a folder, `-> target` a symbolic link, `=> target` a hard link."
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            text = content if isinstance(content, str) else ""
            if content is None:
                member.type = tarfile.DIRTYPE
            elif text.startswith(("-> ", "=> ")):
                member.type, member.linkname = (tarfile.SYMTYPE if text[0] == "-" else tarfile.LNKTYPE), text[3:]
            else:
                content = text.encode() if isinstance(content, str) else content
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if member.isfile() else None)
    return buffer.getvalue()


def write_archive(
    path: Path,
    *layers: dict[str, bytes | str | None],
    processors: tuple[str, ...] = ("amd64",),  # an image for each; with several, they have an index
    settings: dict | None = None,
    packed: bool = True,
    media_type: str | None = None,
) -> Path:
    "Write an OCI archive with these layers."
    blobs = {}

    def add(content: bytes) -> dict:
        blobs[f"blobs/sha256/{digest_of(content).removeprefix('sha256:')}"] = content
        return {"digest": digest_of(content), "size": len(content)}

    def image(processor: str) -> dict:
        contents = [tar_of(layer) for layer in layers]
        kind = media_type or LAYER + ("+gzip" if packed else "")
        entries = [add(gzip.compress(content, mtime=0) if packed else content) for content in contents]
        configuration = {"os": "linux", "architecture": processor, "config": settings or {}}
        entries = [{"mediaType": kind, **entry} for entry in entries]
        return add(json.dumps({"config": add(json.dumps(configuration).encode()), "layers": entries}).encode())

    images = [image(processor) for processor in processors]
    if len(images) > 1:
        images = [add(json.dumps({"manifests": images}).encode())]
    blobs["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    blobs["index.json"] = json.dumps({"schemaVersion": 2, "manifests": images}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in blobs.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def lock_text(packages: dict[str, str]) -> str:
    return "".join(f"{name}=={version} \\\n    --hash=sha256:{'ab' * 32}\n" for name, version in packages.items())


def write_release(folder: Path, name: str, month: str = "2025-02-01") -> Path:
    "A release of which only its files matter. Its features end the day before its month."
    folder.mkdir(parents=True)
    description = {"release": name, "month": month, "features_as_of": "2025-01-31"}
    (folder / "release.json").write_text(json.dumps(description))
    (folder / "rows.npz").write_bytes(name.encode() * 100)
    (folder / "requirements.txt").write_text(lock_text(PACKAGES))
    (folder / "model.joblib").write_bytes(b"a pickle, which the service does not read")
    return folder


def toy_deployment(root: Path) -> Path:
    "A project whose release, lock and code are in scratch/images/service.tar."
    for name in ("deploy/prometheus", "deploy/chart"):
        shutil.copytree(ROOT / name, root / name)
    for name in MODULES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"'The module {name}.'\n")
    include = [*MODULES, "release/*"]
    (root / "bentofile.yaml").write_text(yaml.safe_dump({"include": include, "exclude": ["release/model.joblib"]}))
    (root / "requirements.lock").write_text(lock_text(PACKAGES | {"pandas": "2.3.3"}))
    write_release(root / "state/simulated/releases" / RELEASE, RELEASE)
    (root / "state/simulated/current").symlink_to(f"releases/{RELEASE}")
    write_service(root)
    return root


def service_layers(root: Path) -> list[dict[str, bytes]]:
    "The layers of an image that fits a project: packages, then code and release."
    release = (root / "state/simulated/current").resolve()
    installed = [f"app/packages/{name}-{version}.dist-info/METADATA" for name, version in PACKAGES.items()]
    code = {f"app/bento/src/{name}": (root / name).read_bytes() for name in MODULES}
    code |= {f"app/bento/src/release/{path.name}": path.read_bytes() for path in release.glob("[!m]*")}
    return [{name: b"Metadata-Version: 2.4\n" for name in installed}, code]


def write_service(root: Path, *layers: dict[str, bytes | str | None], **options) -> Path:
    "Write the image of the service as it should be, with more layers over it."
    return write_archive(root / "scratch/images/service.tar", *service_layers(root), *layers, **options)


def with_layer(archive: Path, target: Path, layer: dict[str, bytes | str | None]) -> Path:
    "An image with one more layer, as a container tool takes it."
    with tarfile.open(archive) as tar:
        blobs = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}

    def read(digest: str) -> dict:
        return json.loads(blobs[f"blobs/sha256/{digest.removeprefix('sha256:')}"])

    def add(content: bytes) -> dict:
        blobs[f"blobs/sha256/{digest_of(content).removeprefix('sha256:')}"] = content
        return {"digest": digest_of(content), "size": len(content)}

    index = json.loads(blobs["index.json"])
    manifest = read(index["manifests"][0]["digest"])
    configuration = read(manifest["config"]["digest"])
    content = tar_of(layer)
    configuration["rootfs"]["diff_ids"].append(digest_of(content))
    configuration.pop("history", None)
    manifest["layers"].append({"mediaType": LAYER, **add(content)})
    manifest["config"] |= add(json.dumps(configuration).encode())
    index["manifests"][0] |= add(json.dumps(manifest).encode())
    blobs["index.json"] = json.dumps(index).encode()
    with tarfile.open(target, "w") as tar:
        for name, content in blobs.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target
