"""What is rendered really runs: podman makes the pod of the Deployment, with its user, limits and volumes.

Podman asks no probes, has no Services and reads no subPath: those are checked as text, and by a cluster.
"""

import json
import resource
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from checkers import EXAMPLE, ROOT, template
from servers import free_port

from brewcast.targets.chart import image_facts, merged_values

START_SECONDS = 60  # at most, for an image that is in the storage; about 4 are usual
FACTS = image_facts(ROOT)
SMALL = {  # values without what podman has not: secrets in a volume end podman 4.3 with a crash
    "replicas": 1,
    "image": {"pullSecret": ""},
    "autoscaling": {"cpu": {"enabled": False}},
    "apiKeys": {"enabled": False},
    "onlineStore": {"enabled": False},
}


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    "Run podman. A container gets no more open files than this process may have: more needs a right that is not always there."
    assert shutil.which("podman"), "podman is missing: make image-programs"
    settings = tmp_path_factory.mktemp("podman") / "containers.conf"
    limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: resource.getrlimit(limit)[1] for name, limit in limits.items()}
    texts = [f"{name}={min(value, 4096)}:{min(value, 4096)}" for name, value in hard.items() if value > 0]
    settings.write_text(f"[containers]\ndefault_ulimits = {json.dumps(texts)}\n")

    def run(*words, check=True):
        environment = {
            "CONTAINERS_CONF": str(settings),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(Path.home()),
        }
        done = subprocess.run(
            ["podman", "--runtime", "runc", *map(str, words)], env=environment, capture_output=True, text=True
        )
        assert not check or done.returncode == 0, f"podman {words[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout.strip()

    return run


@pytest.fixture(scope="module")
def image(podman, published, service_image):
    "The service's image in podman's storage, from its archive, with a name of its own."
    archive = published.root / service_image.archive
    name = f"localhost/test-{secrets.token_hex(4)}:chart"
    subprocess.run(["skopeo", "copy", "-q", f"oci-archive:{archive}", f"containers-storage:{name}"], check=True)
    yield name
    podman("rmi", name)


@pytest.fixture(scope="module")
def pod(podman, image, tmp_path_factory):
    "The pod of the rendered Deployment: its container, and its address."
    folder = tmp_path_factory.mktemp("pod")
    documents = yaml.safe_load_all(template(merged_values(EXAMPLE, SMALL), folder).stdout)
    (deployment,) = [each for each in documents if each and each["kind"] == "Deployment"]
    name = deployment["metadata"]["name"] = f"test-{secrets.token_hex(4)}"
    spec = deployment["spec"]["template"]["spec"]
    del spec["serviceAccountName"]  # podman knows no accounts
    port = free_port()
    spec["containers"][0]["image"] = image
    spec["containers"][0]["ports"][0]["hostPort"] = port
    (folder / "pod.yaml").write_text(yaml.safe_dump(deployment))
    podman("play", "kube", folder / "pod.yaml")
    yield f"{name}-pod-0-service", f"http://127.0.0.1:{port}"
    podman("pod", "rm", "-f", f"{name}-pod-0")


def get(address: str, body: dict | None = None) -> tuple[int, object]:
    "Status and JSON of an answer; status 0 if nobody answers."
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, None
    except OSError:
        return 0, None


def test_the_pod_is_ready_and_answers(pod):
    _, address = pod
    end = time.monotonic() + START_SECONDS
    while get(address + FACTS["ready"])[0] != 200 and time.monotonic() < end:
        time.sleep(0.2)
    assert get(address + FACTS["live"])[0] == 200
    status, ready = get(address + FACTS["ready"])
    assert status == 200 and ready["ready"]
    (answer,) = get(address + "/forecast", {"store_ids": ["STORE101"]})[1]
    assert answer["forecast"] > 0 and answer["model_version"] == ready["release"]


def test_the_container_has_the_user_the_limits_and_the_rights_of_the_chart(pod, podman):
    (found,) = json.loads(podman("inspect", pod[0]))
    limits = merged_values(yaml.safe_load((ROOT / "deploy/chart/values.yaml").read_text()), EXAMPLE)["resources"]
    assert found["Config"]["User"].startswith(str(FACTS["user"]))
    assert found["HostConfig"]["ReadonlyRootfs"] and not found["EffectiveCaps"]
    assert "no-new-privileges" in found["HostConfig"]["SecurityOpt"]
    assert (limits["limits"]["memory"], found["HostConfig"]["Memory"]) == ("1Gi", 1 << 30)
    assert {mount["Destination"] for mount in found["Mounts"]} == {FACTS["predictions"], "/tmp"}


def test_it_writes_its_predictions_and_nothing_else(pod, podman):
    code = """
import json, os
def can_write(folder):
    try:
        open(f"{folder}/probe", "w").close()
        os.unlink(f"{folder}/probe")
        return True
    except OSError:
        return False
print(json.dumps({folder: can_write(folder) for folder in ["/", "/app", "/app/bento", "/tmp", "/predictions"]}))
"""
    writable = json.loads(podman("exec", pod[0], "/usr/bin/python3.11", "-c", code))
    assert [folder for folder, can in writable.items() if can] == ["/tmp", FACTS["predictions"]]
    logged = podman("exec", pod[0], "/usr/bin/python3.11", "-c", "import os; print(os.listdir('/predictions'))")
    assert ".jsonl" in logged


def test_it_ends_well_within_its_grace_period(pod, podman):
    started = time.monotonic()
    podman("stop", "-t", FACTS["drainSeconds"], pod[0])
    assert time.monotonic() - started < FACTS["drainSeconds"]
    (found,) = json.loads(podman("inspect", pod[0]))
    assert found["State"]["ExitCode"] == 0
