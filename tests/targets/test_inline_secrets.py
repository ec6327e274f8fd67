"Secrets are found wherever they stand, and names, digests and addresses are not taken for secrets."

import base64

import pytest
import yaml
from conftest import ROOT

from brewcast.targets.inline_secrets import comment_secrets, document_secrets, secret_kind

REDIS = "redis://:hunter2@redis:6379/0"


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "text, kind",
    [
        (REDIS, "a password in a URL"),
        (f"--store={REDIS} --verbose", "a password in a URL"),
        ("postgresql://feast:p%40ss@db.example.com/rows", "a password in a URL"),
        ("rediss://default:A1b2@cache.example.com:6380", "a password in a URL"),
        (coded(REDIS), "a password in a URL, behind base64"),
        (coded(coded(REDIS)), "a password in a URL, behind base64, behind base64"),
        (base64.urlsafe_b64encode(b"redis://:hunter>>>?@redis").decode(), "a password in a URL, behind base64"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END", "a PEM block"),
        (coded("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\n"), "a PEM block, behind base64"),
        ("ghp_0123456789abcdefABCDEF0123456789abcd", "a token of GitHub"),
        ("glpat-0123456789abcdefABCD", "a token of GitLab"),
        ("xoxb-123456789012-abcdefABCDEF", "a token of Slack"),
        ("AKIAIOSFODNN7EXAMPLE", "a key of AWS"),
        ("DefaultEndpointsProtocol=https;AccountKey=abcdefghij0123456789ABCDEFGHIJ==", "a key of Azure"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc", "a signed token"),
        ("Bearer abcdef0123456789abcdef", "an authorization"),
        ('{"auths": {"registry.example.com": {"auth": "YW5uOmh1bnRlcjI="}}}', "a login of a registry"),
        (coded('{"auths": {"registry.example.com": {}}}'), "a login of a registry, behind base64"),
        ("password=hunter2", "a value of a secret"),
        ("https://hooks.slack.com/services/T000/B000/XXXX", "an address of a webhook"),
        ("Zq8xT1mK9vB2nL7cR4wY6sD3fG5hJ0pA", "a long random text"),
    ],
)
def test_a_secret_is_found(text, kind):
    assert secret_kind(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "brewcast-keys",
        "registry.example.com:5000/team/brewcast@sha256:" + "9f86d081" * 8,
        "http://prometheus.monitoring:9090",
        "https://forecast.example.com/a/b@c",
        "redis.example.com:6379",
        "app.kubernetes.io/managed-by",
        "sum(brewcast_requests_in_flight{job='brewcast'})",
        "Etc/UTC",
        "15 6 * * *",
        "secretKeyRef",
        "a password is never written here; the secret has it under the key `url`",
        "kubernetes.io/hostname",
        "nginx.ingress.kubernetes.io/proxy-connect-timeout",
        "CHANGE-ME",
    ],
)
def test_what_is_no_secret_is_left_alone(text):
    assert secret_kind(text) is None


@pytest.mark.parametrize(
    "document, place",
    [
        ({"onlineStore": {"url": REDIS}}, "onlineStore.url"),
        ({"a": [{"b": [REDIS]}]}, "a[0].b[0]"),
        ({"env": {"DB_PASSWORD": "x"}}, "env.DB_PASSWORD"),
        ({"apiKey": 12345678}, "apiKey"),
        ({"ingress": {"annotations": {REDIS: "x"}}}, "ingress.annotations (a name)"),
        (REDIS, "the document"),
    ],
)
def test_the_place_is_named_and_the_secret_is_not_repeated(document, place):
    found = [*document_secrets(document)]
    assert [where for where, _ in found] == [place]
    assert "hunter2" not in str(found)


def test_a_binary_value_of_yaml_is_looked_through():
    assert [*document_secrets(yaml.safe_load(f"data: !!binary {coded(REDIS)}"))] == [("data", "a password in a URL")]


def test_names_of_secrets_and_switches_are_no_secrets():
    values = {"apiKeys": {"enabled": True, "secret": "brewcast-keys"}, "automountServiceAccountToken": False}
    values |= {"pullSecret": "registry", "tlsSecret": "forecast-tls", "token": "", "password": None}
    assert [*document_secrets(values)] == []


def test_a_comment_counts_and_a_hash_in_a_value_is_no_comment():
    text = f"a: 1\n# {REDIS}\nb: 2 # {REDIS}\nc: 'x#{'y' * 30}'\n# see https://example.com\n"
    assert [*comment_secrets(text)] == [(2, "a password in a URL"), (3, "a password in a URL")]


@pytest.mark.parametrize(
    "name", ["chart/values.yaml", "example-values.yaml", "rendered/brewcast.yaml", "rendered/keda.yaml"]
)
def test_the_projects_own_files_hold_none(name):
    text = (ROOT / "deploy" / name).read_text()
    documents = [*yaml.safe_load_all(text)]
    assert [*document_secrets(documents), *comment_secrets(text)] == []
