"Alert rules and dashboard use only metrics of the service, and each alert fires when it must, and only then."

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import prometheus_client
import pytest
import yaml
from conftest import ROOT
from servers import free_port
from waits import wait_until

from brewcast.serving.metrics import Metrics

DEPLOY = ROOT / "deploy"
RULES, TESTS, CONFIG = (DEPLOY / "prometheus" / name for name in ("rules.yml", "rules_test.yml", "prometheus.yml"))
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
FROM_PROMETHEUS = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}  # metrics that Prometheus adds
TARGET = {"job", "instance"}  # labels that Prometheus adds to every scraped metric


def alerts():
    return {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}


def panels():
    return json.loads(DASHBOARD.read_text())["panels"]


def expressions():
    "Every PromQL expression of the dashboard, by panel or annotation."
    panel_expressions = {f"{p['title']} {t['refId']}": t["expr"] for p in panels() for t in p.get("targets", [])}
    return panel_expressions | {a["name"]: a["expr"] for a in json.loads(DASHBOARD.read_text())["annotations"]["list"]}


def filled_in(expression):
    "The expression with values in position of Grafana's variables."
    return expression.replace("$__rate_interval", "5m").replace("$instance", ".*")


@pytest.fixture(scope="module")
def promtool():
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed: Debian's package prometheus has it")

    def run(*arguments, cwd=None):
        return subprocess.run(["promtool", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture(scope="module")
def service():
    "The service's metrics after some requests, with a challenger that answers a tenth of the stores."
    metrics = Metrics()
    description = SimpleNamespace(features_as_of="2024-04-30")
    champion, challenger = (SimpleNamespace(name=name, description=description) for name in ("0123abcd", "4567cdef"))
    metrics.set_serving(SimpleNamespace(champion=champion, challenger=challenger, share=10))
    for status in ("200", "422", "500", "503"):
        metrics.requests.labels("/forecast", status).inc()
    metrics.request_seconds.labels("/forecast").observe(0.002)
    for version, role in ((champion, "champion"), (challenger, "challenger"), (challenger, "shadow")):
        metrics.forecasts.labels(version.name, role).inc()
    return metrics


@pytest.fixture(scope="module")
def exposed(service):
    "The labels of each metric of /metrics, by its name."
    labels = {}
    for family in service.registry.collect():
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


# -- compared with the service's metrics

GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
OPERATORS = {"and", "or", "unless", "offset", "bool", "by", "on"}


def metrics_in(expression):
    "Of a PromQL expression: (metric, labels of its selector) for each metric, and the labels that it groups by."
    selectors = [
        (name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inner))) for name, inner in SELECTOR.findall(expression)
    ]
    bare = GROUPING.sub("", re.sub(r"\[[^]]*\]", "", SELECTOR.sub("", expression)))
    names = set(re.findall(r"\b([a-zA-Z_:][\w:]*)\b(?!\s*\()", bare)) - OPERATORS
    grouped = {name.strip() for inner in GROUPING.findall(expression) for name in inner.split(",")}
    return selectors + [(name, set()) for name in sorted(names)], grouped


SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")


def test_metrics_in_finds_every_metric():
    selectors, grouped = metrics_in(
        'sum by (job, le) (rate(a_total{job="x", path!="/"}[5m])) > 2 and on (job) time() - b_x > 3e9'
    )
    assert selectors == [("a_total", {"job", "path"}), ("b_x", set())] and grouped == {"job", "le"}


def unknown_names(expression, exposed):
    "Metrics and labels of an expression that the service does not have."
    known = exposed | FROM_PROMETHEUS
    unknown = []
    selectors, grouped = metrics_in(expression)
    for name, labels in selectors:
        unknown += [name] if name not in known else sorted(labels - known[name] - TARGET)
    everything = set().union(TARGET, *(known.get(name, set()) for name, _ in selectors))
    return unknown + sorted(grouped - everything)


def test_rules_and_dashboard_use_only_what_the_service_exposes(exposed):
    used = {name: rule["expr"] for name, rule in alerts().items()} | expressions()
    assert {where: unknown_names(expression, exposed) for where, expression in used.items()} == dict.fromkeys(used, [])
    # and a metric or label that does not exist is found
    assert unknown_names('rate(brewcast_request_total{job="x"}[5m])', exposed) == ["brewcast_request_total"]
    assert unknown_names('brewcast_shed_total{path="/"} > 0', exposed) == ["path"]
    assert unknown_names("sum by (rôle) (brewcast_forecasts_total)", exposed) == ["rôle"]


def test_roles_in_rules_and_dashboard_are_roles_of_the_service(service):
    exposed_roles = {s.labels["role"] for f in service.registry.collect() for s in f.samples if "role" in s.labels}
    used_roles = {
        role
        for text in (RULES.read_text(), DASHBOARD.read_text().replace('\\"', '"'))
        for roles in re.findall(r'role[=!]~?"([^"]*)"', text)
        for role in roles.split("|")
    }
    assert used_roles and used_roles <= exposed_roles


def test_every_metric_of_the_service_is_on_the_dashboard(exposed):
    shown = {name for expression in expressions().values() for name, _ in metrics_in(expression)[0]}
    ours = {
        name for name in exposed if name.startswith("brewcast_") and not name.endswith(("_created", "_sum", "_count"))
    }
    assert ours - shown == set()


# -- the rules


def test_promtool_accepts_rules_and_configuration(promtool):
    for arguments in (("check", "rules", RULES), ("check", "config", CONFIG)):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(alerts())} rules found" in promtool("check", "rules", RULES).stdout


def test_every_alert_has_a_runbook():
    anchors = re.findall(r'<a id="([^"]+)"></a>(\w+), (\w+) \|', (DEPLOY / "README.md").read_text())
    assert [(name, severity) for _, name, severity in anchors] == [
        (name, rule["labels"]["severity"]) for name, rule in alerts().items()
    ]
    for name, rule in alerts().items():
        assert set(rule["annotations"]) == {"summary", "description", "runbook"} and all(rule["annotations"].values())
        assert rule["annotations"]["runbook"] == f"deploy/README.md#{name.lower()}"
        assert (name.lower(), name) in [anchor[:2] for anchor in anchors]


def test_commands_in_the_runbook_exist():
    from brewcast.cli import GROUPS, app

    text = (DEPLOY / "README.md").read_text()
    known = {info.name for info in app.registered_commands}
    known |= {f"{name} {info.name}" for name, group in GROUPS.items() for info in group.registered_commands}
    commands = set(re.findall(rf"`brewcast ((?:(?:{'|'.join(GROUPS)}) )?\w+)", text))
    assert "deploy check" in commands and commands <= known
    targets = re.findall(r"(?m)^([a-z-]+):.*## ", (DEPLOY.parent / "Makefile").read_text())
    assert set(re.findall(r"`make (\w+)", text)) <= set(targets)


def test_every_alert_fires_when_it_must_and_only_then(promtool):
    done = promtool("test", "rules", TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = [each for test in yaml.safe_load(TESTS.read_text())["tests"] for each in test["alert_rule_test"]]
    for name in alerts():
        assert {bool(each["exp_alerts"]) for each in tried if each["alertname"] == name} == {True, False}, name


def mutants(rule):
    "Variants of the rule with one mistake each: (mistake, rule)."
    expression = rule["expr"]
    if "for" in rule:
        number, unit = int(rule["for"][:-1]), rule["for"][-1]
        yield "no for", {name: value for name, value in rule.items() if name != "for"}
        yield "longer for", rule | {"for": f"{3 * number}{unit}"}
    for found in re.finditer(r"(>|==) ([\d.e]+)", expression):
        sign, value = found[1], float(found[2])
        others = [1e12, -1] if (sign, value) == (">", 0) else [1] if value == 0 else [value * 2, value / 2]
        for other in others[: 1 if sign == "==" else 2]:
            yield (
                f"{found[0]} -> {other:g}",
                rule | {"expr": f"{expression[: found.start(2)]}{other:f}{expression[found.end(2) :]}"},
            )
        flipped = {">": "<", "==": "!="}[sign]
        yield (
            f"{found[0]} {flipped}",
            rule | {"expr": f"{expression[: found.start(1)]}{flipped}{expression[found.end(1) :]}"},
        )
    for matcher in sorted(set(re.findall(r'\w+(?:=~|!=|=)"[^"]*"', expression))):
        yield f"without {matcher}", rule | {"expr": re.sub(rf"(?<=[{{ ]){re.escape(matcher)}(, )?", "", expression)}
    for word, other in {"unless": "and", "and": "or", "or": "and"}.items():
        if re.search(rf"\b{word}\b(?! vector)", expression):
            yield f"{word} -> {other}", rule | {"expr": re.sub(rf"\b{word}\b", other, expression)}
    yield "another severity", rule | {"labels": {"severity": "info"}}


def test_a_rule_with_a_mistake_fails_its_tests(promtool, tmp_path):
    # given each rule with one mistake: a threshold, a comparison, a label or a duration
    tried = yaml.safe_load(TESTS.read_text())
    wrong = [(name, what, rule) for name, rule in alerts().items() for what, rule in mutants(rule)]
    assert len(wrong) > 100
    named = [rule | {"alert": f"Wrong{number}"} for number, (_, _, rule) in enumerate(wrong)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "wrong", "rules": named}]}))
    checked = promtool("check", "rules", tmp_path / "rules.yml")
    assert f"{len(wrong)} rules found" in checked.stdout, checked.stderr  # with a mistake, but valid PromQL

    def survives(case):
        number, (name, _, rule) = case
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "brewcast", "rules": [rule]}]}))
        mine = [test for test in tried["tests"] if any(e["alertname"] == name for e in test["alert_rule_test"])]
        (folder / "rules_test.yml").write_text(yaml.safe_dump(tried | {"tests": mine}))
        return promtool("test", "rules", "rules_test.yml", cwd=folder).returncode == 0

    # when its tests run, then each mistake is found
    with ThreadPoolExecutor(2) as pool:
        survived = list(pool.map(survives, enumerate(wrong)))
    assert [case[:2] for case, alive in zip(wrong, survived, strict=True) if alive] == []


# -- the dashboard


def test_the_dashboard_is_complete():
    board = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)) and board["title"] == "Brewcast" and board["uid"]
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text())) - {"__rate_interval", "__all"}
    assert used == variables
    for panel in board["panels"]:
        position = panel["gridPos"]
        assert position["x"] + position["w"] <= 24 and panel["title"]
        if panel["type"] != "row":
            assert panel["description"] and panel["targets"], panel["title"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
            references = [target["refId"] for target in panel["targets"]]
            assert len(references) == len(set(references))
    cells = [
        (x, y)
        for position in (panel["gridPos"] for panel in board["panels"])
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"


def test_promtool_reads_every_expression_of_the_dashboard(promtool, tmp_path):
    rules = [{"record": f"panel:{n}", "expr": filled_in(e)} for n, e in enumerate(expressions().values())]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_address_is_a_placeholder_of_this_machine():
    for path in (RULES, TESTS, CONFIG, DASHBOARD):
        assert not re.search(r"https?://", path.read_text()), path
    config = yaml.safe_load(CONFIG.read_text())
    sections = [*config["scrape_configs"], *config["alerting"]["alertmanagers"]]
    addresses = [target for section in sections for static in section["static_configs"] for target in static["targets"]]
    assert addresses and all(address.startswith("127.0.0.1:") for address in addresses)
    assert [scraped["job_name"] for scraped in config["scrape_configs"]] == ["brewcast"]


# -- a real Prometheus


@pytest.fixture
def prometheus(tmp_path, service):
    "A function that queries the API of a Prometheus with these files, which scrapes the service every second."
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not installed: Debian's package prometheus has it")
    exporter, thread = prometheus_client.start_http_server(0, "127.0.0.1", service.registry)
    config = CONFIG.read_text().replace(": 15s", ": 1s")
    config = config.replace("127.0.0.1:3000", f"127.0.0.1:{exporter.server_port}")
    (tmp_path / "prometheus.yml").write_text(config.replace("127.0.0.1:9093", f"127.0.0.1:{free_port()}"))
    (tmp_path / "rules.yml").write_text(re.sub(r"for: \w+", "for: 1s", RULES.read_text()))
    port = free_port()
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data", "--log.level=error"]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )

    def ask(path, **query):
        address = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            assert process.poll() is None, (tmp_path / "log").read_text()
            return None

    yield ask
    process.terminate()
    process.wait(120)
    exporter.shutdown()
    thread.join()


def test_prometheus_scrapes_the_service_and_every_panel_has_data(prometheus, service):
    # given a service that is not ready
    service.ready.set(0)
    # when Prometheus scrapes it
    wait_until(
        lambda: (prometheus("query", query='up{job="brewcast"} == 1') or {}).get("result"), "scraped", patience=60
    )

    def firing():
        active = prometheus("alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in active if alert["state"] == "firing"}

    # then the rules are loaded and the alert fires, and also the one for features that are years old
    wait_until(lambda: {"BrewcastNotReady", "BrewcastFeaturesOld"} <= set(firing()), "fired", patience=60)
    alert = firing()["BrewcastNotReady"]
    assert (
        alert["labels"]["severity"] == "critical"
        and "no release that passed its check" in alert["annotations"]["summary"]
    )
    rules = [rule for group in prometheus("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == set(alerts())
    # and every panel has data
    wait_until(
        lambda: (prometheus("query", query="count_over_time(brewcast_ready[1m]) > 3") or {}).get("result"),
        "scraped often",
        patience=60,
    )
    empty = [w for w, e in expressions().items() if not prometheus("query", query=filled_in(e))["result"]]
    assert empty == []
    assert all(rule["health"] == "ok" for rule in rules), rules
    # and the alert ends when the service is ready
    service.ready.set(1)
    wait_until(lambda: "BrewcastNotReady" not in firing(), "silent", patience=60)
