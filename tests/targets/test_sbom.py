"""The list of contents of an image: read from its layers, whatever later layers replace or remove.

CycloneDX's own program is not needed here: a toy stands for it. tests/deploy/test_images.py asks the real one.
"""

import json
import sys

import pytest
from archives import write_archive

from brewcast.targets.image_archive import read_image
from brewcast.targets.sbom import bill_of_materials, debian_licences, find_lister, write_bills

NUMPY = b"Name: NumPy\nVersion: 2.4.6\nLicense-Expression: BSD-3-Clause\n"
OLD_NUMPY = b"Name: numpy\nVersion: 1.0\n"
ZLIB = b"Package: zlib1g\nVersion: 1:1.2.13.dfsg-1\nArchitecture: amd64\n"
RELEASE = json.dumps({"release": "1f0c3a9b2e4d", "files": {"model.onnx": "00"}}).encode()
LISTER = """#!{python}
import json, subprocess, sys
assert sys.argv[1] == "environment" and "--output-reproducible" in sys.argv
code = (
    "import importlib.metadata as m, json;"
    "print(json.dumps(sorted([d.name, d.version, d.metadata['License-Expression']] for d in m.distributions())))"
)
found = json.loads(subprocess.run([sys.argv[-1] + "/bin/python", "-c", code], check=True, stdout=-1).stdout)
parts = [
    {{"bom-ref": f"{{name}}=={{version}}", "name": name, "version": version, "purl": f"pkg:pypi/{{name}}@{{version}}",
      "licenses": [{{"license": {{"id": licence}}}}]}} for name, version, licence in found
]
print(json.dumps({{"metadata": {{"tools": {{}}}}, "components": parts, "dependencies": []}} if parts else {{"metadata": {{}}}}))
"""


@pytest.fixture
def lister(tmp_path):
    "A program that lists what is in an environment, as CycloneDX's does."
    path = tmp_path / "tools" / "cyclonedx-py"
    path.parent.mkdir()
    path.write_text(LISTER.format(python=sys.executable))
    path.chmod(0o755)
    return path


def test_packages_of_python_and_debian_and_the_model_are_listed_with_licences(tmp_path, lister, monkeypatch):
    first = {
        "var/lib/dpkg/status.d/zlib1g": ZLIB,
        "usr/share/doc/zlib1g/copyright": b"Format: 1.0\nFiles: *\nLicense: Zlib\nLicense: Zlib\n",
        "app/packages/numpy-1.0.dist-info/METADATA": OLD_NUMPY,
    }
    second = {
        "app/packages/.wh.numpy-1.0.dist-info": b"",
        "app/packages/numpy-2.4.6.dist-info/METADATA": NUMPY,
        "app/bento/src/release/release.json": RELEASE,
        "app/packages/vendored/METADATA": OLD_NUMPY,
    }
    labels = {"org.opencontainers.image.title": "brewcast-service", "brewcast.release": "1f0c3a9b2e4d"}
    path = write_archive(tmp_path / "service.tar", first, second, settings={"Labels": labels})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "other"))  # what this machine has is not in the image
    (tmp_path / "other/tea-1.dist-info").mkdir(parents=True)
    (tmp_path / "other/tea-1.dist-info/METADATA").write_text("Name: tea\nVersion: 1\n")
    bill = bill_of_materials(path, lister)
    found = {part["name"]: (part["version"], part.get("licenses")) for part in bill["components"]}
    assert found == {
        "NumPy": ("2.4.6", [{"license": {"id": "BSD-3-Clause"}}]),
        "zlib1g": ("1:1.2.13.dfsg-1", [{"license": {"name": "Zlib"}}]),
        "brewcast-release": ("1f0c3a9b2e4d", None),
    }
    digest = read_image(path, ()).digests[0]
    subject = {"type": "container", "bom-ref": digest, "name": "brewcast-service", "version": "1f0c3a9b2e4d"}
    assert bill["metadata"]["component"] == subject
    assert bill["dependencies"][-1]["dependsOn"] == [part["bom-ref"] for part in bill["components"]]
    # and the same image gives the same bytes
    assert write_bills(tmp_path, lister) and (tmp_path / "service.cdx.json").read_bytes()
    before = (tmp_path / "service.cdx.json").read_bytes()
    write_bills(tmp_path, lister)
    assert (tmp_path / "service.cdx.json").read_bytes() == before


def names_of(bill: dict) -> set[str]:
    return {part["name"] for part in bill["components"]}


def test_debian_packages_are_read_from_one_file_or_from_many(tmp_path, lister):
    python = b"Package: libpython3.11\nVersion: 3.11\nArchitecture: amd64\n"
    removed = b"\nPackage: tea\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n"
    many = {
        "var/lib/dpkg/status.d/libpython3.11": python,
        "var/lib/dpkg/status.d/libpython3.11.md5sums": b"00  usr/lib/python3.11\n",
    }
    assert names_of(bill_of_materials(write_archive(tmp_path / "many.tar", many), lister)) == {"libpython3.11"}
    one = {"var/lib/dpkg/status": ZLIB + b"Status: install ok installed\n\n" + python + removed}
    bill = bill_of_materials(write_archive(tmp_path / "one.tar", one), lister)
    assert names_of(bill) == {"zlib1g", "libpython3.11"}


def test_the_licence_of_a_package_may_lie_in_the_folder_of_another(tmp_path, lister):
    layer = {
        "var/lib/dpkg/status.d/zlib1g": ZLIB,
        "usr/share/doc/zlib1g": "-> zlib-base",
        "usr/share/doc/zlib-base/copyright": b"Format: 1.0\nLicense: Zlib\n",
    }
    bill = bill_of_materials(write_archive(tmp_path / "image.tar", layer), lister)
    assert bill["components"][0]["licenses"] == [{"license": {"name": "Zlib"}}]


@pytest.mark.parametrize(
    "copyright, expected",
    [
        ("Format: 1.0\nLicense: GPL-2+\n its text\nLicense: Expat\nLicense: GPL-2+\n", ["Expat", "GPL-2+"]),
        (
            "It is in `/usr/share/common-licenses/GPL', or\nin /usr/share/common-licenses/LGPL-2.1.\n",
            ["GPL", "LGPL-2.1"],
        ),
        ("PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2\n", ["PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2"]),
        ("License: Permission is granted to all.\n", []),
        ("", []),
    ],
)
def test_debian_licences_are_read_from_fields_or_from_prose(copyright, expected):
    assert debian_licences(copyright) == expected


def test_a_program_that_fails_is_an_error_with_its_words(tmp_path, lister):
    lister.write_text("#!/bin/sh\necho no such environment >&2\nexit 3\n")
    write_archive(tmp_path / "service.tar", {"app/packages/numpy-2.4.6.dist-info/METADATA": NUMPY})
    with pytest.raises(RuntimeError, match="no such environment"):
        write_bills(tmp_path, lister)
    assert not (tmp_path / "service.cdx.json").exists()


def test_without_the_program_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"make \.venv-checks/ready"):
        find_lister(tmp_path)


def test_without_an_image_the_way_to_one_is_named(tmp_path, lister):
    with pytest.raises(FileNotFoundError, match="`make image` or `make image-stage`"):
        write_bills(tmp_path, lister)
