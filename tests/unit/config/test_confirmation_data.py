"""``data.train_on`` and ``data.measure_on``: refused to a search, and no part of the keys of searches."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from icd.config.json_schema import schema_of
from icd.config.read_trial import read_trial
from icd.config.trial import DataConfig, TrialConfig, student_name
from icd.config.yaml import Document
from icd.errors import ConfigError
from icd.search.core.preparation import teacher_name
from icd.teacher.store import recipe
from tests.unit.config.sweeps import sweep

PROTOCOL = {"preset": "digits100", "epochs": 4}
SEARCHED: dict[str, Any] = {
    "data": {"name": "digits100", "val_fraction": 0.2, "split_seed": 3, "train_per_class": 4},
    "teacher": {"arch": "resnet20", "weights": "train"},
    "student": "resnet8",
    "method": "iCD-KD",
    "training": PROTOCOL,
    "seed": 7,
}
# Keys of documents: with other ones FORMAT of the ledger must change.
KEYS: dict[str, dict[str, Any]] = {
    "3baef7ced186430f072be76212f76adce539bf9617257955be81ef8888862d3a": {
        "data": "cifar100",
        "student": "resnet8",
        "training": {"preset": "cifar100", "epochs": 2},
        "method": "cross_entropy",
    },
    "8cdd1b6247394213d4380334d42638d0452a96aba75125808139da689c9e72c0": SEARCHED,
    "0349aecbc29dda392526ba56eedb6e34db0babf753364b198b849a6ea01d1128": {
        "data": {"name": "npz", "path": "images.npz", "digest": "a:b"},
        "teacher": {"arch": "resnet20", "weights": "train", "digest": "e" * 64},
        "student": "resnet8x4",
        "method": "SD-KD",
        "training": PROTOCOL,
    },
}


def read(document: dict[str, Any]) -> TrialConfig:
    return read_trial(Document(document, "x.yaml"))


@pytest.mark.parametrize("key", KEYS)
def test_keys_and_documents_stay(key: str) -> None:
    config = read(KEYS[key])
    assert config.key() == key
    assert not {"train_on", "measure_on"} & config.to_data()["data"].keys()
    spelt = read({**config.to_data(), "data": {**config.to_data()["data"], "train_on": "train", "measure_on": "val"}})
    assert (spelt, spelt.key()) == (config, key)


@pytest.mark.parametrize("digest", [None, "a:b"])
def test_what_is_used_otherwise_has_another_key_and_is_written(digest: str | None) -> None:
    config = read(SEARCHED)
    searched = replace(config.data, digest=digest)
    used = [
        searched,
        replace(searched, train_on="train+val", measure_on="test"),
        replace(searched, measure_on="test"),
    ]
    configs = [replace(config, data=data) for data in used]
    assert len({item.key() for item in configs}) == 3
    for item in configs:
        assert read(item.to_data()) == item
    assert used[1].parts == {"train_on": "train+val", "measure_on": "test"}
    assert "train+val" not in str(configs[2].to_data()["data"])


def test_teachers_and_choices_do_not_depend_on_it() -> None:
    config = read(SEARCHED)
    confirmed = replace(config, data=replace(config.data, train_on="train+val", measure_on="test"))
    assert config.teacher is not None
    assert recipe(confirmed.data, config.teacher).key() == recipe(config.data, config.teacher).key()
    assert teacher_name(confirmed) == teacher_name(config)
    assert student_name(confirmed) == student_name(config)


def test_nobody_is_measured_on_what_it_has_seen() -> None:
    with pytest.raises(
        ConfigError, match=r"data.train_on: train_on must be train where measure_on is val.*'train\+val'"
    ):
        read({**SEARCHED, "data": {"name": "digits100", "train_on": "train+val"}})
    with pytest.raises(ValueError, match="train_on must be train where measure_on is val"):
        DataConfig(name="digits100", train_on="train+val")
    with pytest.raises(ConfigError, match=r"data\.measure_on"):
        read({**SEARCHED, "data": {"name": "digits100", "measure_on": "tset"}})


@pytest.mark.parametrize("value", ["train_on: train+val", "train_on: train", "measure_on: test", "measure_on: val"])
def test_a_sweep_file_may_not_say_it(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        sweep(data="{name: digits100, " + value + "}")
    key, _, said = value.partition(": ")
    data = {"name": "digits100", key: said}
    assert Draft202012Validator(schema_of("trial")).is_valid({**SEARCHED, "data": data})
    assert not Draft202012Validator(schema_of("sweep")).is_valid({"name": "x", "data": data})
    wanted = f"x.yaml:4: data.{key}: a search trains on train and chooses on val; 'icd confirm' does the rest, but got"
    assert f"{wanted} {said!r}" in [str(problem) for problem in caught.value.problems]
