"""Fingerprints: read strictly, and no part of the configuration."""

import pytest
import yaml

from icd.config.read_trial import read_trial, stored_fingerprint
from icd.config.trial import Fingerprint, plain_data
from icd.config.yaml import parse_yaml
from icd.errors import ConfigError

PLAIN = "student: resnet8\nmethod: cross_entropy\n"
NOTED = Fingerprint(
    key="a" * 64,
    device="x86_64 CPU, 1 threads",
    precision="fp32",
    teacher="cache",
    versions={"icd": "0.1.0", "torch": "2.14.1"},
    losses=(4.75, 300.125, 0.1),
)


def written(**changes: object) -> str:
    return PLAIN + yaml.safe_dump({"fingerprint": {**plain_data(NOTED), **changes}})


def test_read_back_and_no_part_of_the_configuration() -> None:
    document = parse_yaml(written(), "best.yaml")
    assert stored_fingerprint(document) == NOTED
    assert read_trial(document) == read_trial(parse_yaml(PLAIN, "plain.yaml"))
    assert read_trial(document).key() == read_trial(parse_yaml(PLAIN, "plain.yaml")).key()
    assert stored_fingerprint(parse_yaml(PLAIN, "plain.yaml")) is None


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"losses": [1.0, "x"]}, "fingerprint.losses[1]: must be a number"),
        ({"losses": 3}, "fingerprint.losses: must be a list"),
        ({"teacher": "asleep"}, "must be one of 'cache', 'live', 'none'"),
        ({"loses": []}, "did you mean 'losses'?"),
        ({"versions": ["1"]}, "must be a mapping"),
    ],
    ids=["text", "number", "teacher", "unknown", "versions"],
)
def test_malformed(changes: dict[str, object], rule: str) -> None:
    document = parse_yaml(written(**changes), "best.yaml")
    with pytest.raises(ConfigError) as caught:
        read_trial(document)
    assert str(caught.value).startswith("best.yaml:")
    assert rule in str(caught.value)
