"An image is read from its OCI archive: layers, whiteouts, links, several processors, and everything that can be wrong."

import hashlib
import json
import os
import stat
import tarfile

import pytest
from archives import digest_of, tar_of, write_archive

from brewcast.targets.image_archive import MOST_TEXT, image_archive, read_image


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def files_of(tmp_path, *layers, **options) -> dict[str, str]:
    return read_image(write_archive(tmp_path / "image.tar", *layers, **options), ("app",)).files


@pytest.mark.parametrize("packed", [True, False])
def test_a_higher_layer_replaces_adds_and_takes_away(tmp_path, packed):
    lower = {
        "./app/": None,
        "./app/model": "old",
        "./app/rows": "old",
        "./app/deep/file": "old",
        "./etc/passwd": "root",
    }
    higher = {"app/model": "new", "app/.wh.rows": "", "app/.wh.deep": "", "app/golden": "new"}
    assert files_of(tmp_path, lower, higher, packed=packed) == {
        "app/model": hash_of("new"),
        "app/golden": hash_of("new"),
    }


def test_an_opaque_folder_hides_what_is_below_and_shows_what_its_own_layer_adds_before_or_after(tmp_path):
    lower = {"app/release/old": "old", "app/release/deep/old": "old", "app/code": "old"}
    higher = {"app/release/first": "new", "app/release/.wh..wh..opq": "", "app/release/last": "new"}
    assert sorted(files_of(tmp_path, lower, higher)) == ["app/code", "app/release/first", "app/release/last"]


def test_a_whiteout_concerns_the_layers_below_only(tmp_path):
    assert files_of(tmp_path, {"app/rows": "old"}, {"app/rows": "new", "app/.wh.rows": ""}) == {
        "app/rows": hash_of("new")
    }
    assert files_of(tmp_path, {"app/rows": "old"}, {".wh.app": ""}, {"app/model": "new"}) == {
        "app/model": hash_of("new")
    }


@pytest.mark.parametrize(
    "lower, higher, paths",
    [
        ({"app/release/rows": "1"}, {"app/release": "a file"}, ["app/release"]),
        ({"app/release": "a file"}, {"app/release/rows": "1"}, ["app/release/rows"]),
        ({"app/release/rows": "1"}, {"app": "-> /elsewhere"}, ["app"]),
    ],
)
def test_a_folder_that_becomes_a_file_and_a_file_that_becomes_a_folder(tmp_path, lower, higher, paths):
    assert sorted(files_of(tmp_path, lower, higher)) == paths


def test_links_are_no_files_but_a_hard_link_has_the_content_of_its_target(tmp_path):
    lower = {"app/model": "content"}
    higher = {
        "app/same": "=> app/model",
        "app/soft": "-> model",
        "app/away": "-> /etc/passwd",
        "app/gone": "=> app/none",
    }
    files = files_of(tmp_path, lower, higher)
    assert files["app/same"] == files["app/model"] == hash_of("content")
    assert files["app/soft"] == "link to model" and files["app/away"] == "link to /etc/passwd"
    assert files["app/gone"] == "link to app/none"


def test_only_wanted_texts_are_kept_and_those_of_a_higher_layer(tmp_path):
    archive = write_archive(
        tmp_path / "image.tar", {"app/a.json": "1", "app/b.json": "2"}, {"app/a.json": "3", "app/.wh.b.json": ""}
    )
    assert read_image(archive, ("app",), (".json",)).texts == {"app/a.json": b"3"}
    assert read_image(archive, ("app",)).texts == {}


def test_all_texts_of_a_folder_and_all_folders_of_an_image_can_be_asked_for(tmp_path):
    lower = {"status.d/one": "1", "app/status.d/two": "2", "app/status.d/deep/three": "3", "status.d.old": "4"}
    image = read_image(write_archive(tmp_path / "image.tar", lower, {"status.d/.wh.one": ""}), ("",), ("status.d/",))
    assert image.texts == {"app/status.d/two": b"2"}
    assert sorted(image.files) == ["app/status.d/deep/three", "app/status.d/two", "status.d.old"]


def test_a_path_that_leads_outside_is_left_out_and_nothing_is_written(tmp_path):
    before = sorted(tmp_path.rglob("*"))
    archive = write_archive(tmp_path / "image.tar", {"app/../../escaped": "x", "/app/absolute": "y", "../escaped": "x"})
    assert read_image(archive, ("app",)).files == {"app/absolute": hash_of("y")}
    assert sorted(tmp_path.rglob("*")) == [*before, archive]


def test_the_image_for_the_wanted_processor_is_read_from_an_index(tmp_path):
    archive = write_archive(tmp_path / "image.tar", {"app/a": "1"}, processors=("arm64", "amd64"))
    images = {name: read_image(archive, ("app",), processor=name) for name in ("arm64", "amd64", "riscv64")}
    assert {name: image.processor for name, image in images.items()} == {
        "arm64": "arm64",
        "amd64": "amd64",
        "riscv64": "arm64",
    }
    digests = [images[name].digests for name in ("arm64", "amd64")]
    assert all(len(found) == 2 for found in digests)  # its own, and that of the index
    assert digests[0][0] != digests[1][0] and digests[0][1] == digests[1][1]


def test_the_digest_is_that_of_the_manifest_and_settings_are_the_configuration(tmp_path):
    image = read_image(write_archive(tmp_path / "image.tar", {"app/a": "1"}, settings={"User": "65532"}), ("app",))
    with tarfile.open(tmp_path / "image.tar") as archive:
        manifest = archive.extractfile(f"blobs/sha256/{image.digests[0].removeprefix('sha256:')}").read()
    assert b'"layers"' in manifest and image.settings == {"User": "65532"}
    assert (image.system, image.processor) == ("linux", "amd64")


def damaged(tmp_path, change) -> str:
    "The message for an archive whose bytes were changed."
    archive = write_archive(tmp_path / "image.tar", {"app/a": "1" * 2000}, packed=False)
    archive.write_bytes(change(archive.read_bytes()))
    with pytest.raises(ValueError) as refusal:
        read_image(archive, ("app",))
    return str(refusal.value)


def test_what_was_changed_or_is_missing_is_found(tmp_path):
    assert "was changed" in damaged(tmp_path, lambda content: content.replace(b"1" * 2000, b"2" * 2000))
    assert "was changed" in damaged(tmp_path, lambda content: content.replace(b'"amd64"', b'"arm64"'))
    assert "make image" in damaged(tmp_path, lambda content: content[:3000])
    assert "is not an OCI archive" in damaged(tmp_path, lambda content: b"no archive at all")
    assert "has no index.json" in damaged(tmp_path, lambda content: content.replace(b"index.json", b"inbox.json"))
    assert "is not the name of a blob" in damaged(
        tmp_path, lambda content: content.replace(b'"digest": "sha256:', b'"digest": "sha999:')
    )


def test_a_layer_that_is_packed_otherwise_is_refused_with_the_way_out(tmp_path):
    archive = write_archive(
        tmp_path / "image.tar", {"app/a": "1"}, media_type="application/vnd.oci.image.layer.v1.tar+zstd"
    )
    with pytest.raises(ValueError, match="packed by zstd.*skopeo copy --dest-compress-format gzip"):
        read_image(archive, ("app",))


def test_a_missing_archive_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="service.tar is missing: `make image` builds it"):
        read_image(tmp_path / "service.tar", ("app",))


def fake_program(folder, name: str, script: str):
    "A program of this name that comes first on the PATH."
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_an_image_by_its_name_is_saved_by_podman_and_its_archive_deleted(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "image of podman.tar", {"app/a": "1"})
    save = f'if [ "$1" = save ]; then cp "{archive}" "$6"; else [ "$3" = brewcast-service:1 ]; fi'
    fake_program(tmp_path, "podman", save)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "work").mkdir()
    with image_archive("brewcast-service:1", tmp_path / "work") as path:
        assert read_image(path, ("app",)).files == {"app/a": hash_of("1")}
    assert list((tmp_path / "work").iterdir()) == []
    with pytest.raises(
        FileNotFoundError, match="brewcast-service:2 is not a file, and podman knows no image of that name"
    ):
        with image_archive("brewcast-service:2", tmp_path / "work"):
            pass


def test_without_podman_a_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="podman is not installed"):
        with image_archive("brewcast-service:1", tmp_path):
            pass


@pytest.mark.parametrize(
    "index",
    [
        "[]",
        "3",
        "no JSON",
        "\udce4",
        '{"manifests": null}',
        '{"manifests": {}}',
        '{"manifests": [{}]}',
        '{"manifests": ["sha256:1"]}',
        '{"manifests": [{"digest": 1}]}',
        '{"manifests": ' + "[" * 100_000,
        None,  # a folder
    ],
)
def test_an_index_made_by_hand_is_refused_with_the_name_of_the_file(tmp_path, index):
    content = None if index is None else index.encode(errors="surrogateescape")
    (tmp_path / "hand.tar").write_bytes(tar_of({"index.json": content}))
    with pytest.raises(ValueError, match="hand.tar is not an OCI archive"):
        read_image(tmp_path / "hand.tar", ("app",))


def by_hand(path, manifest: dict, configuration: object = None):
    "An archive with this manifest; its `config`, unless it has one, is the configuration."
    contents = {}

    def add(content: object) -> dict:
        text = json.dumps(content).encode()
        contents[f"blobs/sha256/{digest_of(text).removeprefix('sha256:')}"] = text
        return {"digest": digest_of(text)}

    contents["index.json"] = json.dumps({"manifests": [add({"config": add(configuration)} | manifest)]}).encode()
    path.write_bytes(tar_of(contents))
    return path


@pytest.mark.parametrize(
    "manifest, configuration",
    [
        ({"layers": [], "config": []}, {}),
        ({"layers": [], "config": None}, {}),
        ({"layers": {}}, {}),
        ({"layers": ["sha256:1"]}, {}),
        ({"layers": [{"digest": "sha256:" + "1a" * 32, "mediaType": None}]}, {}),
        ({"layers": []}, []),
        ({"layers": []}, {"config": [1]}),
        ({"layers": []}, {"config": {"Labels": ["a"]}}),
        ({"layers": []}, {"config": {"Env": "a"}}),
        ({"layers": []}, {"architecture": None}),
    ],
)
def test_a_manifest_made_by_hand_is_refused_with_the_name_of_the_file(tmp_path, manifest, configuration):
    with pytest.raises(ValueError, match="hand.tar is not an OCI archive"):
        read_image(by_hand(tmp_path / "hand.tar", manifest, configuration), ("app",))


def test_indexes_in_one_another_end(tmp_path):
    contents = {}
    inner = {"layers": []}
    for _ in range(20):
        text = json.dumps(inner).encode()
        contents[f"blobs/sha256/{digest_of(text).removeprefix('sha256:')}"] = text
        inner = {"manifests": [{"digest": digest_of(text)}]}
    (tmp_path / "hand.tar").write_bytes(tar_of(contents | {"index.json": json.dumps(inner).encode()}))
    with pytest.raises(ValueError, match="hand.tar is not an OCI archive .its indexes are nested too deeply"):
        read_image(tmp_path / "hand.tar", ("app",))


def test_a_text_that_is_kept_has_a_limit_and_a_file_that_is_only_hashed_has_none(tmp_path):
    archive = write_archive(tmp_path / "image.tar", {"app/release.json": b" " * (MOST_TEXT + 1)})
    assert list(read_image(archive, ("app",)).files) == ["app/release.json"]
    with pytest.raises(ValueError, match="app/release.json in a layer has 16 MB, more than the 16 MB"):
        read_image(archive, ("app",), (".json",))
