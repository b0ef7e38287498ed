"""No secret of the environment in what the command says."""

import logging

import pytest

from icd.redact import HidingFormatter, hide

ENVIRONMENT = {
    "PGPASSWORD": "postgres-value",
    "AWS_SECRET_ACCESS_KEY": "aws/value+=",
    "RAY_AUTH_TOKEN": "ray-value",
    "RAY_AUTH_TOKEN_PATH": "/home/me/token",
    "RAY_AUTH_MODE": "token",
    "ICD_STORAGE_URL": "postgresql://icd:p%40ss-value@db/icd",
    "SHORT_TOKEN": "abc",
    "HOME": "/home/me",
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("failed for postgres-value", "failed for ***"),
        ("key aws/value+= and ray-value", "key *** and ***"),
        ("see /home/me/token", "see /home/me/token"),
        ("the token mode", "the token mode"),
        ("abc", "abc"),
        ("password p%40ss-value, or p@ss-value", "password ***, or ***"),
        ("http://me:x@host/path", "http://***@host/path"),
        ("http://t0ken@host", "http://***@host"),
        ("http://me:x@y@host", "http://***@host"),
        ("http://host/a@b", "http://host/a@b"),
        ("'http://host' and me@host", "'http://host' and me@host"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert hide(text, ENVIRONMENT) == shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRETS_DIR", "sketches/"),
        ("TOKENIZERS_PARALLELISM", "examples"),
        ("PASSWORD_STORE_ENABLE_EXTENSIONS", "examples"),
        ("REGISTRY_TOKEN", "/usr/bin"),  # a path that is there
    ],
)
def test_settings_and_paths_are_no_secrets(name: str, value: str) -> None:
    assert hide(f"{value}/x.yaml is missing", {name: value}) == f"{value}/x.yaml is missing"


@pytest.mark.parametrize(
    "name", ["DB_PASSWORD", "client_secret", "WANDB_API_KEY", "GH_TOKEN_2", "MY_CREDENTIALS", "AWS_SECRET_ACCESS_KEY"]
)
def test_names_that_end_like_a_secret(name: str) -> None:
    assert hide("it was /abc/def+ghi", {name: "/abc/def+ghi"}) == "it was ***"


def test_a_secret_within_another() -> None:
    assert hide("secret-long", {"A_TOKEN": "secret", "B_TOKEN": "secret-long"}) == "***"


def test_log_records_and_their_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "postgres-value")
    try:
        raise ValueError("it was postgres-value")
    except ValueError as error:
        record = logging.LogRecord("icd", 10, "x", 1, "%s", ("http://a:b@c",), (ValueError, error, error.__traceback__))
    text = HidingFormatter("icd: %(message)s").format(record)
    assert text.startswith("icd: http://***@c\nTraceback")
    assert text.endswith("ValueError: it was ***")
    assert "postgres-value" not in text
