"""``icd teacher cache``: built ahead, listed, checked, repaired and dropped, by the command."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from icd.config.read_sweep import read_sweep
from icd.config.yaml import read_yaml
from icd.errors import SetupError
from icd.search.core.preparation import PreflightRequest
from icd.search.suggest.search_space import SearchSpace
from icd.worker.preflight import run_preflight
from tests.command import Command
from tests.documents import document_of
from tests.tiny import views, write_images

TRIAL: dict[str, Any] = {
    "data": {"name": "npz", "path": "tiny.npz", "val_fraction": 0.5},
    "teacher": {"arch": "resnet8", "weights": "train", "training": {"epochs": 1, "augmentation": views()}},
    "student": "resnet8",
    "method": "iCD-KD",
    "training": {"epochs": 2, "augmentation": views()},
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ICD_TEACHER_CACHE", raising=False)
    monkeypatch.setenv("ICD_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture
def trial(tmp_path: Path) -> dict[str, Any]:
    data = {**TRIAL["data"], "path": str(write_images(tmp_path / "images.npz"))}
    return {**TRIAL, "data": data}


@pytest.fixture
def file(tmp_path: Path, trial: dict[str, Any]) -> Path:
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump(trial))
    return path


def caches(command: Command) -> list[dict[str, Any]]:
    said = command("teacher", "cache", "list", "--json")
    assert said.code == 0, said.err
    return list(json.loads(said.out))


def test_built_shown_used_checked_repaired_and_dropped(command: Command, file: Path, root: Path) -> None:
    said = command("teacher", "cache", "build", str(file), "--teacher-cache", "stream")
    assert said.code == 0, said.err
    assert "teacher cache: stream of " in said.err
    assert "cache is full; the teacher was run on 100 images for it" in said.err
    again = command("teacher", "cache", "build", str(file), "--teacher-cache", "stream")
    assert "the teacher was run on 0 images for it" in again.err
    (row,) = caches(command)
    assert (row["mode"], row["filled"], row["slots"], row["side"]) == ("stream", 100, 100, 4)

    trained = command("train", str(file))  # alone it would make no cache, but takes the one that is there
    assert trained.code == 0, trained.err
    assert "100% of it there" in trained.err
    rows = [json.loads(line) for line in (root / "trials" / "trial" / "metrics.jsonl").read_text().splitlines()]
    assert [row["teacher/images"] for row in rows] == [0, 0]

    entries = root / "teacher_cache" / row["digest"] / "entries.bin"
    content = np.fromfile(entries, np.uint8)
    content[7] ^= 255
    content.tofile(entries)
    said = command("teacher", "cache", "verify")
    assert said.code == 6
    assert "1 entries fail their checksums; --repair drops them" in said.err
    assert (
        command("teacher", "cache", "verify", row["digest"][:6], "--repair")
        .out.strip()
        .endswith("1 damaged and dropped")
    )
    assert command("teacher", "cache", "verify").code == 0
    assert caches(command)[0]["filled"] == 99
    content.tofile(entries)
    assert command("train", str(file), "--teacher-cache", "stream", "--name", "mends").code == 0
    rows = [json.loads(line) for line in (root / "trials" / "mends" / "metrics.jsonl").read_text().splitlines()]
    assert sum(row["teacher/images"] for row in rows) == 1
    assert (command("teacher", "cache", "verify").code, caches(command)[0]["filled"]) == (0, 100)

    assert command("teacher", "cache", "rm").code == 2
    assert "must be named by the beginning of its digest, but got 'zz'" in command("teacher", "cache", "rm", "zz").err
    assert command("teacher", "cache", "rm", row["digest"]).code == 0
    assert caches(command) == []
    assert "no caches yet" in command("teacher", "cache", "list").err


def test_a_sweep_s_cache_is_built_for_all_its_trials(command: Command, trial: dict[str, Any], tmp_path: Path) -> None:
    space = {"scales": {"choices": [[1, 2], [1, 3]]}, "cluster_weight": {"low": 1, "high": 8}}
    sweep = {**trial, "name": "s", "ranges": space, "enqueue": ["KD", "SP"], "budget": {"trials": 3}}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(document_of(sweep)))
    said = command("teacher", "cache", "build", str(path))
    assert said.code == 0, said.err
    assert sorted((row["side"], row["from_map"]) for row in caches(command)) == [(3, True), (4, False)]
    assert all(row["filled"] == row["slots"] for row in caches(command))
    assert said.err.count("the teacher was run on 100 images") == 1, "one forward fills both"


def test_teachers_of_several_pairs_share_the_budget(
    command: Command, trial: dict[str, Any], tmp_path: Path, root: Path
) -> None:
    other = {**trial["teacher"], "arch": "resnet14"}
    pairs = [{"name": str(n), "teacher": own, "student": "resnet8"} for n, own in enumerate((trial["teacher"], other))]
    sweep = {**trial, "name": "s", "teacher": None, "student": None, "pairs": pairs, "budget": {"trials": 3}}
    path = tmp_path / "sweep.yaml"
    path.write_text(json.dumps(document_of({**sweep, "ranges": {"cluster_weight": {"low": 1, "high": 8}}})))
    asked = ("--teacher-cache", "full", "--teacher-cache-gb", "0.0001")
    assert "but got 50 kB of budget" in command("teacher", "cache", "build", str(path), *asked).err
    configs = [config.to_data() for config in SearchSpace(read_sweep(read_yaml(path, ()))).extremes()]
    request = PreflightRequest(configs=configs, root=str(root), teacher_cache="full", teacher_cache_gb=0.0001)
    with pytest.raises(SetupError, match="but got 50 kB of budget"):
        run_preflight(request, print, lambda: False)


def test_a_stream_of_every_seed_of_a_range_is_built(
    command: Command, trial: dict[str, Any], tmp_path: Path, root: Path
) -> None:
    path, seeds = tmp_path / "sweep.yaml", {"seed": {"low": 0, "high": 3}}
    document = document_of({**trial, "name": "s", "ranges": {"cluster_weight": {"low": 1, "high": 8}}})
    path.write_text(yaml.safe_dump({**document, **seeds, "search": {"budget": {"trials": 12}}}))
    said = command("teacher", "cache", "build", str(path), "--teacher-cache", "stream", "--teacher-cache-gb", "0.0001")
    assert "needs 131 kB, but got 100 kB of budget" in said.err, "both ends alone would fit"
    space = SearchSpace(read_sweep(read_yaml(path, ())))
    configs = [config.to_data() for config in space.extremes()]
    request = PreflightRequest(configs=configs, root=str(root), trials=12, teacher_cache_gb=0.0001, probe=False)
    assert list(run_preflight(request, print, lambda: False).teacher_caches.values()) == ["stream"]
    request = replace(request, **space.extent())
    assert list(run_preflight(request, print, lambda: False).teacher_caches.values()) == ["off"]
    said = command("teacher", "cache", "build", str(path), "--teacher-cache", "stream")
    assert said.code == 0, said.err
    found = caches(command)
    assert sorted(row["sequence"] for row in found) == [[seed, 2] for seed in range(4)]
    assert all(row["filled"] == row["slots"] for row in found)


def test_teachers_of_several_pairs_share_what_the_disk_has(
    trial: dict[str, Any], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**9 + 50_000))
    teachers = trial["teacher"], {**trial["teacher"], "arch": "resnet14"}
    request = PreflightRequest(
        configs=[{**trial, "teacher": teacher} for teacher in teachers], root=str(root), trials=12, probe=False
    )
    assert list(run_preflight(request, print, lambda: False).teacher_caches.values()) == ["stream", "off"]


def test_what_cannot_be(command: Command, file: Path) -> None:
    said = command("teacher", "cache", "build", str(file), "--set", "method=SP")
    assert said.code == 0
    assert "teacher runs live: features are compared, a cache holds logits" in said.err
    said = command("teacher", "cache", "build", str(file), "--set", "method=SP", "--teacher-cache", "full")
    assert said.code == 2
    assert "--teacher-cache full: features are compared" in said.err
    said = command("train", str(file), "--teacher-cache", "full", "--teacher-cache-gb", "0.0001")
    assert said.code == 3
    assert "of budget and disk" in said.err
