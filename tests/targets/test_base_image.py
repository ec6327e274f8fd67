"The base image: which packages are in it and why, and what is said when they cannot be fetched."

import subprocess

import pytest
from conftest import ROOT

from brewcast.targets import base_image
from brewcast.targets.base_image import (
    IMAGE_FOLDER,
    LEFT_OUT_OF_BASE,
    base_packages,
    fetch_packages,
    finish_base,
    is_debian_12,
    processor,
    require_programs,
    unpack_packages,
)

LIST = (ROOT / IMAGE_FOLDER / "base-packages.txt").read_text()


def test_each_package_has_a_reason_and_none_is_a_shell_or_an_installer():
    lines = [line for line in LIST.splitlines() if line and not line.startswith("#")]
    assert all(len(line.split()) >= 2 for line in lines)
    names = base_packages(ROOT)
    assert len(names) == len(set(names)) == len(lines)
    assert not {"bash", "dash", "coreutils", "apt", "dpkg", "perl-base", "python3-pip", "gcc-12", "busybox"} & {*names}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("ID=debian\nVERSION_CODENAME=bookworm\n", True),
        ("ID=debian\nVERSION_CODENAME=trixie\n", False),
        ("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n", False),
    ],
)
def test_only_debian_12_takes_its_own_packages(tmp_path, text, expected):
    (tmp_path / "os-release").write_text(text)
    assert is_debian_12(str(tmp_path / "os-release")) is expected
    assert not is_debian_12(str(tmp_path / "nothing"))


def test_on_another_system_debootstrap_is_asked_for_and_its_other_packages_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr(base_image, "is_debian_12", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="debootstrap and dpkg-deb are not installed: `make image-programs`"):
        fetch_packages(["tzdata"], tmp_path)
    # given a debootstrap that fetches more than was asked for
    monkeypatch.setattr(base_image, "require_programs", lambda *_: None)

    def debootstrap(command, folder=None):
        assert command[0] == "debootstrap" and {"--download-only", "--force-check-gpg"} < {*command}
        archives = base_image.Path(command[-1], "var/cache/apt/archives")
        archives.mkdir(parents=True)
        for name in ("tzdata_2026a_all.deb", "dash_1_amd64.deb"):
            (archives / name).touch()

    monkeypatch.setattr(base_image, "run_program", debootstrap)
    (tmp_path / "debs").mkdir()
    fetch_packages(["tzdata"], tmp_path / "debs")
    assert [path.name for path in (tmp_path / "debs").iterdir()] == ["tzdata_2026a_all.deb"]
    with pytest.raises(RuntimeError, match="Debian's zlib1g could not be fetched: name another base with BASE="):
        fetch_packages(["tzdata", "zlib1g"], tmp_path / "debs")


def test_a_program_that_fails_is_named_with_its_own_words():
    with pytest.raises(RuntimeError, match="(?s)ls failed:.*no-such-file"):
        base_image.run_program(["ls", "/no-such-file"])
    with pytest.raises(FileNotFoundError, match="no-such-a and no-such-b are not installed"):
        require_programs("ls", "no-such-a", "no-such-b")


def test_a_package_is_unpacked_without_its_scripts_programs_and_manuals(tmp_path):
    # given a package with a script that would run at its installation
    package = tmp_path / "toy"
    for name in (
        "usr/bin/python3.11",
        "usr/lib/toy.so",
        "usr/share/doc/toy/copyright",
        "usr/share/doc/toy/NEWS",
        "usr/sbin/toy",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("toy")
    (package / "usr/share/man").mkdir()
    (package / "DEBIAN").mkdir()
    control = "Package: toy\nVersion: 1.0-1\nArchitecture: all\nMaintainer: none\nDescription: toy\n"
    (package / "DEBIAN/control").write_text(control)
    script = package / "DEBIAN/postinst"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    debs, tree = tmp_path / "debs", tmp_path / "tree"
    debs.mkdir()
    subprocess.run(["dpkg-deb", "-b", package, debs / "toy_1.0-1_all.deb"], check=True, capture_output=True)
    # when it is unpacked
    unpack_packages(debs, tree)
    finish_base(tree)
    # then its library, its licence and its description are there
    files = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file() and not path.is_symlink()}
    written = {"etc/passwd", "etc/group", "etc/ssl/certs/ca-certificates.crt"}
    kept = {"usr/bin/python3.11", "usr/lib/toy.so", "usr/share/doc/toy/copyright", "var/lib/dpkg/status.d/toy"}
    assert files - written == kept
    assert not any((tree / name).exists() for name in LEFT_OUT_OF_BASE)
    assert "nonroot:x:65532:65532:" in (tree / "etc/passwd").read_text()


def test_another_processor_is_refused(monkeypatch):
    monkeypatch.setattr(base_image.platform, "machine", lambda: "riscv64")
    with pytest.raises(RuntimeError, match="x86_64 or aarch64, and this is Linux with riscv64"):
        processor()
