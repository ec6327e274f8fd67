"The list of contents of an image: read from its layers, whatever later layers replace or remove."

import json

import pytest
from archives import write_archive

from brewcast.targets.image_archive import read_image
from brewcast.targets.sbom import bill_of_materials, python_licences, write_bills

NUMPY = b"Name: NumPy\nVersion: 2.4.6\nLicense-Expression: BSD-3-Clause\n"
OLD_NUMPY = b"Name: numpy\nVersion: 1.0\n"
ZLIB = b"Package: zlib1g\nVersion: 1:1.2.13.dfsg-1\nArchitecture: amd64\n"
RELEASE = json.dumps({"release": "1f0c3a9b2e4d", "files": {"model.onnx": "00"}}).encode()


def test_packages_of_python_and_debian_and_the_model_are_listed_with_licences(tmp_path):
    first = {
        "var/lib/dpkg/status.d/zlib1g": ZLIB,
        "usr/share/doc/zlib1g/copyright": b"Files: *\nLicense: Zlib\nLicense: Zlib\n",
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
    bill = bill_of_materials(path)
    found = {part["name"]: (part["version"], part.get("licenses")) for part in bill["components"]}
    assert found == {
        "numpy": ("2.4.6", [{"license": {"name": "BSD-3-Clause"}}]),
        "zlib1g": ("1:1.2.13.dfsg-1", [{"license": {"name": "Zlib"}}]),
        "brewcast-release": ("1f0c3a9b2e4d", None),
    }
    digest = read_image(path, ()).digests[0]
    subject = {"type": "container", "bom-ref": digest, "name": "brewcast-service", "version": "1f0c3a9b2e4d"}
    assert bill["metadata"]["component"] == subject
    assert bill["dependencies"][0]["dependsOn"] == [part["bom-ref"] for part in bill["components"]]
    # and the same image gives the same bytes
    assert write_bills(tmp_path) and (tmp_path / "service.cdx.json").read_bytes()
    before = (tmp_path / "service.cdx.json").read_bytes()
    write_bills(tmp_path)
    assert (tmp_path / "service.cdx.json").read_bytes() == before


@pytest.mark.parametrize(
    "metadata, expected",
    [
        ("License: MIT\n", ["MIT"]),
        ("License: UNKNOWN\n", []),
        ("License: Copyright (c) someone\n and all of the text\n", ["Copyright (c) someone"]),
        (
            "License: long\nClassifier: License :: OSI Approved :: Apache Software License\n",
            ["Apache Software License"],
        ),
        ("Classifier: License :: OSI Approved\n", []),
        ("License: x\nLicense-Expression: MIT OR Apache-2.0\n", ["MIT OR Apache-2.0"]),
    ],
)
def test_the_most_exact_field_names_the_licence(metadata, expected):
    assert python_licences(f"Name: a\nVersion: 1\n{metadata}") == expected


def test_without_an_image_the_way_to_one_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="`make image` or `make image-stage`"):
        write_bills(tmp_path)
