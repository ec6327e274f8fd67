"The service as BentoML starts it: local only, with the application's own pages and log, and a clean stop."

import json
import signal
import sys

import psutil
from clients import ONE_STORE, post, run_service
from releases import ROOT, make_release

from brewcast.delivery.package import http_request, isolated_environment
from brewcast.serving.prediction_log import read_predictions


def test_bentoml_adds_no_port_and_no_log_line_and_a_stop_loses_no_prediction(tmp_path):
    # given the service as `bentoml serve` starts it without a host, with a prediction log
    release = make_release(tmp_path).folder
    environment = isolated_environment(tmp_path / "home") | {"PYTHONPATH": str(ROOT), "BREWCAST_RELEASE": str(release)}
    environment |= {"BREWCAST_PREDICTIONS": str(tmp_path / "predictions")}
    command = [sys.executable, "-m", "bentoml", "serve", "brewcast.serving.bento:Brewcast", "--port", "PORT"]
    with run_service(command, tmp_path / "log", cwd=tmp_path, env=environment) as service:
        # when it gets valid requests, and a request for a page with a secret in its name
        answered = [post(service.port, ONE_STORE)[1][0] for _ in range(3)]
        assert http_request(service.port, "GET", "/hunter2?hunter2=1")[0] == 404
        # then it listens on this machine only, and the pages are the application's
        family = [psutil.Process(service.process.pid), *psutil.Process(service.process.pid).children(recursive=True)]
        listening = [c for each in family for c in each.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert service.port in {c.laddr.port for c in listening} and {c.laddr.ip for c in listening} == {"127.0.0.1"}
        counters = http_request(service.port, "GET", "/metrics")[1].decode()
        assert "brewcast_ready 1.0" in counters
        # when it gets a stop signal
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(120)
    # then the prediction log has every answer, and no log has the secret
    assert read_predictions(tmp_path / "predictions").forecast.tolist() == [each["forecast"] for each in answered]
    log = (tmp_path / "log").read_text()
    assert "hunter2" not in log and "Traceback" not in log
    requests = [json.loads(line) for line in log.splitlines() if '"request"' in line]
    assert [line["status"] for line in requests] == [200, 200, 200, 404]
