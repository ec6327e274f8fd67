"Every planted mistake in rendered manifests, alert rules and files for orchestrators is found by the checks that ask its question."

import itertools

import pytest
import yaml
from planting import (
    COMPILED,
    RENDERED,
    ROOT,
    RULES,
    planted_documents,
    planted_mistakes,
    rendered_documents,
)

from brewcast.common.params import env_files
from brewcast.targets.argo import argo_yaml
from brewcast.targets.compiled_checks import compiled_documents, filled_in
from brewcast.targets.kubernetes_objects import Manifests
from brewcast.targets.manifests import all_checks, check_manifest_file, check_manifests

PLANTED = planted_mistakes("manifests", "rules", "argo", "kubeflow")
BY_SCHEMA_ALONE = {"API version that is gone"}  # found by the schemas in tests/deploy/test_quick.py
FOUND_BY = {  # mistake -> the checks that must find it
    "misspelt field": {"stop"},
    "wrong enum value": {"words"},
    "number as text": {"autoscalers"},
    "misspelt field of a custom resource": {"monitors"},
    "schedule with an hour that does not exist": {"monthly"},
    "Service whose selector matches nothing": {"selectors"},
    "Deployment whose selector is not in its pods": {"selectors"},
    "port that differs": {"service_ports"},
    "port that the service does not listen on": {"container_ports", "policies"},
    "Ingress to a port that the Service lacks": {"ingress"},
    "host of the Ingress without a certificate": {"ingress"},
    "autoscaler of another Deployment": {"autoscalers"},
    "disruption budget that forbids every eviction": {"budgets", "selectors"},
    "disruption budget whose selector matches nothing": {"selectors"},
    "NetworkPolicy that closes the port": {"policies"},
    "ServiceMonitor of a port that the Service lacks": {"monitors"},
    "alert on a metric that the service lacks": {"metrics"},
    "job name that no alert selects": {"job_name"},
    "claim that nobody mounts": {"claims", "empty_folders", "lasting_folders"},
    "volume that is not mounted": {"mounts", "paths"},
    "mount of a volume that does not exist": {"mounts", "paths"},
    "state mounted by the service": {"claims"},
    "variable that the service does not know": {"variables"},
    "missing readiness probe": {"probes"},
    "probe of an address that the service lacks": {"probes"},
    "start that is given up too early": {"probe_times"},
    "probe slower than the start": {"probe_times"},
    "readiness asked of the liveness probe": {"probes"},
    "pod killed before its requests are answered": {"stop"},
    "update that stops the old pods first": {"rollout"},
    "no limits": {"resources"},
    "less memory than the service needs": {"resources"},
    "two monthly steps at once": {"monthly"},
    "monthly step that restarts by itself": {"monthly"},
    "root": {"users"},
    "writable root": {"container_rights"},
    "capability added": {"container_rights"},
    "token of the API server mounted": {"node_access"},
    "unpinned image": {"images"},
    "unpinned image of the monthly step": {"images"},
    "secret inline": {"secrets"},
    "cycle": {"dependencies"},
    "artifact that nobody makes": {"artifacts"},
    "artifact of a task that may not have run yet": {"artifacts"},
    "publish before the package": {"artifacts", "publication"},
    "stage on the state's volume": {"state_volume", "writable_folders"},
    "no mutex": {"mutex"},
    "retry of every failure": {"retries"},
    "retry after another exit status": {"retries"},
    "misspelt field of a workflow": {"retries"},
    "image of a stage without a digest": {"images"},
    "trigger of another template": {"workflow_references"},
    "trigger on an event that no source gives": {"events"},
    "parameter that is a list": {"workflow_parameters"},
    "schedule that allows two runs at once": {"workflow_schedules"},
    "parameter of a type that Kubeflow lacks": {"pipeline_parameters"},
    "input from a task that is no upstream": {"artifacts"},
}


@pytest.mark.parametrize("name", sorted(path.name for path in RENDERED.parent.glob("*.yaml")))
def test_no_check_finds_anything_in_what_is_rendered(name):
    assert check_manifest_file(RENDERED.parent / name) == []


def test_no_check_finds_anything_in_the_alert_rules():
    assert check_manifest_file(RULES) == []


@pytest.mark.parametrize("source", env_files(ROOT))
def test_no_check_finds_anything_in_argos_objects_of_any_source(source):
    image = f"registry.example.com/brewcast-stage@sha256:{'1a' * 32}"
    documents = list(yaml.safe_load_all(argo_yaml(ROOT, image, source)))
    claims = list(yaml.safe_load_all((ROOT / "deploy/argo/claims.yaml").read_text()))
    assert check_manifests(Manifests(filled_in(documents))) == {}
    assert check_manifests(Manifests(filled_in(documents) + claims)) == {}


@pytest.mark.parametrize("name", ["pipeline.yaml", "pipeline.kubernetes.yaml"])
def test_no_check_finds_anything_in_the_pipelines_of_kubeflow(name):
    documents = compiled_documents(ROOT / "deploy/kubeflow" / name)
    assert check_manifests(Manifests(filled_in(documents))) == {}


def test_every_planted_mistake_has_its_checks():
    assert FOUND_BY.keys() | BY_SCHEMA_ALONE == PLANTED.keys()


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_found_with_its_object_and_a_way_out(name):
    # given what is rendered, with one mistake
    found = check_manifests(Manifests(planted_documents(PLANTED[name])))
    # then the checks that ask its question find it
    assert set(found) == FOUND_BY.get(name, set())
    # and say where it is, or where its consequence shows, and what to do
    for mistake in (mistake for mistakes in found.values() for mistake in mistakes):
        assert all(mistake) and "\n" not in str(mistake)


@pytest.mark.parametrize("name", [name for name in PLANTED if name in FOUND_BY and "kind" in PLANTED[name]])
def test_a_mistake_names_the_object_in_which_it_was_planted(name):
    found = check_manifests(Manifests(planted_documents(PLANTED[name])))
    kinds = {mistake.object.split("/")[0] for mistakes in found.values() for mistake in mistakes}
    assert PLANTED[name]["kind"] in kinds


def documents_by_origin() -> dict[str, list[dict]]:
    return {"rendered": rendered_documents()} | {
        name: filled_in(compiled_documents(path)) for name, path in COMPILED.items()
    }


@pytest.mark.parametrize("origin", ["rendered", *COMPILED])
def test_checks_go_on_where_manifests_have_another_shape(origin):
    # given correct documents, in which one value after another has another type, as by a mistake in a template
    documents = documents_by_origin()[origin]
    kinds = ("Service", "Deployment", "CronJob", "ServiceMonitor", "NetworkPolicy", "WorkflowTemplate", "CronWorkflow")
    kinds += ("Sensor", "EventSource", None)
    chosen = [place for document in documents if document.get("kind") in kinds for place in places(document)]
    chosen = chosen[:: max(4, len(chosen) // 60)]
    others = itertools.cycle([None, [], {}, "text", [{}], 7])
    for holder, key in chosen:
        original, holder[key] = holder[key], next(others)
        # then all checks give an answer
        check_manifests(Manifests(documents))
        holder[key] = original
    assert len(chosen) > 50 and check_manifests(Manifests(documents)) == {}


def places(value):
    "Each dictionary or list in a document, with each of its keys or positions."
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def test_a_file_that_is_not_yaml_is_refused_by_name(tmp_path):
    (tmp_path / "rendered.yaml").write_text("a: [")
    with pytest.raises(ValueError, match="rendered.yaml is not YAML"):
        check_manifest_file(tmp_path / "rendered.yaml")


def test_every_check_asks_a_question():
    assert [name for name, check in all_checks().items() if not check.__doc__.strip().endswith("?")] == []
