"Alerts sent to a real webhook, and to a real Alertmanager that notifies the webhook."

import json
import os
import shutil
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from servers import free_port
from waits import wait_until

from brewcast.operations import alerts as module
from brewcast.operations.alerts import Alert, alert_path, read_alerts, send_alerts

TOKEN = "s3cret-t0ken"
DRIFT = Alert(
    name="drift",
    severity="warning",
    source="toy",
    month="2024-03",
    subject="forecast error",
    reason="forecasts too high since 2024-02",
    figures={"wape": 0.21},
    link="reports/2024-03/drift.html",
)


def changed(alert: Alert, **fields) -> Alert:
    return alert.model_copy(update=fields)


STOPPED = changed(DRIFT, name="data_quality", severity="critical", subject="completeness", reason="few stores")


class Receiver:
    "A webhook on a free port that records its messages, and answers with the status in `answer`."

    def __init__(self, port=0):
        self.messages, self.answer = [], 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.messages.append(SimpleNamespace(body=body, headers=dict(self.headers), path=self.path))
                self.send_response(receiver.answer)
                if receiver.answer == 302:
                    self.send_header("Location", f"http://127.0.0.1:{receiver.port}/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def notifications(self):
        return [(message.body["name"], message.body["status"]) for message in self.messages]


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def hook(receiver, monkeypatch):
    monkeypatch.setenv("BREWCAST_ALERT_WEBHOOK", f"http://127.0.0.1:{receiver.port}/secret-path")
    monkeypatch.setenv("BREWCAST_ALERT_TOKEN", TOKEN)
    monkeypatch.delenv("BREWCAST_ALERTMANAGER", raising=False)
    return receiver


def all_text(folder):
    return "\n".join(path.read_text() for path in folder.rglob("*") if path.is_file())


def test_the_webhook_receives_one_message_at_the_begin_and_one_at_the_end(tmp_path, hook):
    # given an alert that stays open for three months
    assert [(s.status, s.error) for s in send_alerts(tmp_path, [DRIFT])] == [("firing", None)]
    assert send_alerts(tmp_path, [DRIFT]) == []
    still, stopped = changed(DRIFT, month="2024-04", reason="still"), changed(STOPPED, month="2024-04")
    assert send_alerts(tmp_path, [still, stopped]) != []
    # when a later month raises neither
    assert send_alerts(tmp_path, [], "2024-05", close_others=False) == []
    send_alerts(tmp_path, [], "2024-05")
    send_alerts(tmp_path, [], "2024-06")
    # then it received each message once, with reason, figures, link and the token
    assert sorted(hook.notifications) == sorted(
        [(name, status) for name in ("drift", "data_quality") for status in ("firing", "resolved")]
    )
    first = hook.messages[0]
    assert first.body["reason"] == DRIFT.reason and first.body["figures"] == {"wape": 0.21}
    assert first.body["link"] == DRIFT.link and "forecasts too high" in first.body["text"]
    assert first.headers["Authorization"] == f"Bearer {TOKEN}" and first.path == "/secret-path"
    # and an alert that comes back is sent again
    send_alerts(tmp_path, [changed(DRIFT, month="2025-01")])
    assert hook.notifications[-1] == ("drift", "firing") and read_alerts(tmp_path)[1].earlier[0].ended == "2024-05"


def test_an_alert_with_another_severity_is_another_alert(tmp_path, hook):
    send_alerts(tmp_path, [DRIFT])
    send_alerts(tmp_path, [changed(DRIFT, severity="critical")], "2024-04")
    assert sorted(hook.notifications) == [("drift", "firing"), ("drift", "firing"), ("drift", "resolved")]


@pytest.mark.parametrize("down", ["refuses", "no server"])
def test_a_webhook_that_is_down_receives_the_messages_later(tmp_path, hook, down):
    # given a channel that is down
    if down == "refuses":
        hook.answer = 503
    else:
        hook.close()
    # when alerts are sent, and one of them ends meanwhile
    results = send_alerts(tmp_path, [DRIFT, STOPPED])
    assert len(results) == 1 and results[0].error in (
        "the channel answered 503",
        "the channel could not be reached (ConnectionRefusedError)",
    )
    assert send_alerts(tmp_path, [DRIFT], "2024-04")[0].error
    back = hook
    if down == "refuses":
        hook.answer = 200
        hook.messages.clear()
    else:
        back = Receiver(hook.port)
    # then both messages reach it once it is up again
    assert {(s.name, s.status, s.error) for s in send_alerts(tmp_path, [DRIFT], "2024-04")} == {
        ("drift", "firing", None),
        ("data_quality", "resolved", None),
    }
    assert send_alerts(tmp_path, [DRIFT], "2024-04") == [] and len(back.messages) == 2
    if back is not hook:
        back.close()
        hook.server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # for the fixture to close
        hook.thread = threading.Thread(target=hook.server.serve_forever, daemon=True)
        hook.thread.start()


def test_a_webhook_that_hangs_does_not_delay_the_month(tmp_path, monkeypatch):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("BREWCAST_ALERT_WEBHOOK", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)
        assert send_alerts(tmp_path, [DRIFT, STOPPED])[0].error == "the channel could not be reached (TimeoutError)"


def test_a_redirect_does_not_receive_the_token(tmp_path, hook):
    hook.answer = 302
    assert send_alerts(tmp_path, [DRIFT])[0].error == "the channel answered 302"
    assert [message.path for message in hook.messages] == ["/secret-path"]


def test_a_process_killed_while_sending_sends_again(tmp_path, hook, monkeypatch):
    # given a process that dies after the first message was received, before its file is updated
    write = module._write_alert

    def dies(state, alert):
        if alert.delivered.get("webhook") == "firing":
            raise KeyboardInterrupt
        write(state, alert)

    monkeypatch.setattr(module, "_write_alert", dies)
    with pytest.raises(KeyboardInterrupt):
        send_alerts(tmp_path, [DRIFT, STOPPED])
    monkeypatch.setattr(module, "_write_alert", write)
    # when the month is run again
    send_alerts(tmp_path, [DRIFT, STOPPED])
    # then no message is lost, and one arrived twice
    assert len(hook.messages) == 3 and {name for name, _ in hook.notifications} == {"drift", "data_quality"}


def test_a_damaged_file_is_written_again(tmp_path, hook):
    send_alerts(tmp_path, [DRIFT])
    alert_path(tmp_path, DRIFT).write_text("{")
    assert read_alerts(tmp_path) == [] and len(send_alerts(tmp_path, [DRIFT])) == 1
    assert read_alerts(tmp_path)[0].status == "firing"


def test_a_new_channel_does_not_receive_alerts_that_ended_before(tmp_path, hook, monkeypatch):
    with monkeypatch.context() as without:
        without.delenv("BREWCAST_ALERT_WEBHOOK")
        send_alerts(tmp_path, [DRIFT, STOPPED])
        send_alerts(tmp_path, [DRIFT], "2024-04")
    send_alerts(tmp_path, [DRIFT], "2024-05")
    assert hook.notifications == [("drift", "firing")]


def test_no_file_and_no_message_contains_a_secret(tmp_path, hook):
    for answer in (500, 200):
        hook.answer = answer
        results = send_alerts(tmp_path, [DRIFT])
        for secret in (TOKEN, "secret-path", str(hook.port)):
            assert secret not in all_text(tmp_path) and secret not in str(results)


# -- Alertmanager


@pytest.fixture
def alertmanager(tmp_path, receiver, monkeypatch):
    "A real Alertmanager that notifies the receiver: a function that returns its open alerts by name."
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if not program:
        pytest.skip("Alertmanager is not installed: Debian's package prometheus-alertmanager has it")
    folder = tmp_path / "alertmanager"
    folder.mkdir()
    route = {"receiver": "hook", "group_by": ["alertname", "subject"], "group_wait": "0s", "group_interval": "1s"}
    hook = {"url": f"http://127.0.0.1:{receiver.port}/from-alertmanager", "send_resolved": True}
    config = {"route": route | {"repeat_interval": "30d"}, "receivers": [{"name": "hook", "webhook_configs": [hook]}]}
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    options = [f"--config.file={folder}/config.yml", f"--storage.path={folder}/data", "--cluster.listen-address="]
    options += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log, env=os.environ | {"no_proxy": "*"})

    def ask():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/alerts", timeout=10) as answer:
                return {each["labels"]["alertname"]: each for each in json.load(answer)}
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            return None

    wait_until(lambda: ask() is not None, "up", patience=30)
    monkeypatch.setenv("BREWCAST_ALERTMANAGER", f"http://127.0.0.1:{port}/")
    monkeypatch.delenv("BREWCAST_ALERT_WEBHOOK", raising=False)
    yield ask
    process.terminate()
    process.wait(120)


def passed_on(receiver):
    "The notifications that Alertmanager sent: (name, status)."
    return [
        (each["labels"]["alertname"], each["status"])
        for message in receiver.messages
        for each in message.body["alerts"]
    ]


def test_alertmanager_has_an_alert_once_notifies_once_and_resolves_it(tmp_path, receiver, alertmanager):
    # given an alert that is sent twice
    assert send_alerts(tmp_path / "state", [DRIFT])[0].error is None
    assert send_alerts(tmp_path / "state", [changed(DRIFT, month="2024-04")]) == []
    # then Alertmanager has it once, with reason, figures and link, and notifies its receiver once
    open_alerts = alertmanager()
    assert set(open_alerts) == {"drift"} and open_alerts["drift"]["labels"] == {
        "alertname": "drift",
        "source": "toy",
        "severity": "warning",
        "subject": "forecast error",
    }
    annotations = open_alerts["drift"]["annotations"]
    assert annotations["description"] == DRIFT.reason and json.loads(annotations["figures"]) == {"wape": 0.21}
    assert annotations["link"] == DRIFT.link and "2024-04" in annotations["summary"]
    wait_until(lambda: passed_on(receiver) == [("drift", "firing")], "notified", patience=30)
    # when it has ended
    assert [s.status for s in send_alerts(tmp_path / "state", [], "2024-05")] == ["resolved"]
    # then Alertmanager removes it and notifies its receiver
    wait_until(lambda: not alertmanager(), "removed", patience=30)
    wait_until(
        lambda: passed_on(receiver) == [("drift", "firing"), ("drift", "resolved")], "notified of the end", patience=30
    )


def test_an_alertmanager_that_was_down_receives_the_alerts_later(tmp_path, alertmanager, monkeypatch):
    with monkeypatch.context() as down:
        down.setenv("BREWCAST_ALERTMANAGER", f"http://127.0.0.1:{free_port()}")
        assert "could not be reached" in send_alerts(tmp_path / "state", [DRIFT, STOPPED])[0].error
    assert {s.name for s in send_alerts(tmp_path / "state", [DRIFT, STOPPED])} == {"drift", "data_quality"}
    assert set(alertmanager()) == {"drift", "data_quality"}
