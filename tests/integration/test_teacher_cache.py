"""A trial from a cache is the trial with a live teacher, up to float16; what exists is never computed again."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from icd.config.read_sweep import read_sweep
from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import parse_yaml, read_yaml
from icd.data.loader import Batch
from icd.data.split import Split
from icd.errors import ConfigError, Interrupted, SetupError
from icd.losses.cells import cell_logits
from icd.methods import LiveOutputs, Step
from icd.models import MODELS, Network, build_model
from icd.plugins import Plugin
from icd.search.core.preparation import PreflightRequest, teacher_name
from icd.search.suggest.search_space import SearchSpace
from icd.teacher import cache_builder
from icd.teacher.cache import TeacherCache, open_cache, summary
from icd.teacher.cache_block import Block, block_folder
from icd.teacher.cache_builder import build
from icd.teacher.cache_plan import CachePlan, plan_cache
from icd.training.checkpoints import weights_digest
from icd.training.loop import EpochMetrics, Execution, train, train_batches
from icd.worker.preflight import cache_mode
from icd.worker.trial_inputs import TrialFolders, open_teacher_cache
from tests.tiny import images, views

DATA = {"name": "npz", "path": "tiny.npz"}
ICD: dict[str, Any] = {"recipe": "iCD-KD", "cluster_weight": 8}


def config_of(
    method: Any = ICD, *, epochs: int = 2, seed: int = 0, teacher: str = "resnet14", **training: Any
) -> TrialConfig:
    training = {"augmentation": views(), "measure_every": 0, **training}
    content = {
        "data": DATA,
        "teacher": {
            "arch": teacher,
            "weights": "train",
            "training": {"epochs": 1, "augmentation": training["augmentation"]},
        },
        "student": "resnet8",
        "method": method,
        "training": {"epochs": epochs, "batch_size": 12, **training},
        "seed": seed,
    }
    return pinned(read_trial(parse_yaml(json.dumps(content), "test")))


@pytest.fixture(scope="module")
def split() -> Split:
    return images()


@pytest.fixture(scope="module")
def teacher() -> Network:
    network = build_model("resnet14", num_classes=10, stem="conv3x3", seed=7)
    with torch.no_grad():  # statistics and a head that tell classes apart, as a trained one's would
        network.train()(torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
        network.head.weight.mul_(20)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def pinned(config: TrialConfig) -> TrialConfig:
    assert config.teacher is not None
    data, its_teacher = replace(config.data, digest="d" * 64), replace(config.teacher, digest="t" * 64)
    return replace(config, data=data, teacher=its_teacher)


def cache_of(config: TrialConfig, split: Split, teacher: Network, folder: Path, mode: Any = "stream") -> TeacherCache:
    cache = open_cache(plan_cache([config], split, mode, folder=folder), config, teacher, folder)
    assert cache is not None
    return cache


def first_batch(config: TrialConfig, split: Split, epoch: int = 1) -> Batch:
    return next(iter(train_batches(config, split, split.train, epoch, Execution())))


def trained(
    config: TrialConfig, split: Split, teacher: Network, cache: TeacherCache | None
) -> tuple[Any, list[EpochMetrics]]:
    rows: list[EpochMetrics] = []
    done = train(config, split, teacher, Execution(cache=cache, report=rows.append))
    return done.network, rows


@pytest.mark.parametrize("scales", [(1,), (1, 2), (1, 2, 4), (1, 4), (2, 3), (1, 3)])
@pytest.mark.parametrize("grid", [4, None])
def test_the_side_is_the_live_one_up_to_float16(
    split: Split, teacher: Network, tmp_path: Path, scales: tuple[int, ...], grid: int | None
) -> None:
    method = {"recipe": "iCD-KD", "scales": list(scales), "grid": grid, "allow_repeated_cells": True}
    config = config_of(method)
    batch = first_batch(config, split)
    with torch.no_grad():
        live = LiveOutputs(*teacher(batch.images_BCHW), teacher.head)
    side = cache_of(config, split, teacher, tmp_path).outputs(batch, 1)
    assert_close(side.logits_BK, live.logits_BK)
    wanted_BPK = cell_logits(live.features_BCHW, teacher.head, scales, grid=grid)
    cells_BPK = side.cells(scales, grid)
    assert_close(cells_BPK, wanted_BPK)
    right = live.cells_right(scales, wanted_BPK, batch.labels_B)
    assert torch.equal(side.cells_right(scales, cells_BPK, batch.labels_B), right)
    assert torch.equal(side.logits_right(batch.labels_B), live.logits_right(batch.labels_B))


@pytest.mark.parametrize(("mode", "num_views"), [("stream", 2**31), ("full", 3)])
def test_a_cache_holds_the_views_of_rand_augment(
    split: Split, teacher: Network, tmp_path: Path, mode: str, num_views: int
) -> None:
    family = {"rand_augment": {"size": 16, "pad": 2, "num_views": num_views}}
    config = config_of(augmentation=family)
    _, rows = trained(config, split, teacher, cache_of(config, split, teacher, tmp_path, mode))
    assert sum(row.values["teacher/images"] for row in rows) > 50
    other = replace(config, training=replace(config.training, lr=0.01))
    again, rows = trained(other, split, teacher, cache_of(other, split, teacher, tmp_path, mode))
    assert [row.values["teacher/images"] for row in rows] == [0, 0]
    live, _ = trained(other, split, teacher, None)
    for name, weight in again.named_parameters():
        assert torch.allclose(weight, live.get_parameter(name), atol=0.02), name


def test_an_answer_beside_the_cache_is_the_cache_s_own(split: Split, teacher: Network, tmp_path: Path) -> None:
    config = config_of({"recipe": "iCD-KD", "scales": [1, 2, 3]})
    batch = first_batch(config, split)
    cache = cache_of(config, split, teacher, tmp_path)
    beside = cache.outputs_aside(batch)
    assert cache.computed == 0
    assert not any(block.filled() for block in cache.blocks)
    side = cache.outputs(batch, 1)
    scales, grid = (1, 2, 3), 4
    assert torch.equal(beside.logits_BK, side.logits_BK)
    cells_BPK = side.cells(scales, grid)
    assert torch.equal(beside.cells(scales, grid), cells_BPK)
    assert torch.equal(beside.logits_right(batch.labels_B), side.logits_right(batch.labels_B))
    right_BP = side.cells_right(scales, cells_BPK, batch.labels_B)
    assert torch.equal(beside.cells_right(scales, cells_BPK, batch.labels_B), right_BP)


def assert_close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert found.dtype == torch.float32
    error = (found - wanted).abs().max() / wanted.abs().max()
    assert 0 < error < 1e-3, f"relative error {error:.2e}; equal would mean that nothing was rounded"


def test_windows_that_overlap_keep_the_network_s_own_logits(split: Split, tmp_path: Path) -> None:
    """A map of 7 x 7 does not divide into a grid of 4: the mean of the cells is not the network's answer."""
    wide = build_model("resnet14", num_classes=10, stem="conv3x3", seed=7).eval()
    config = config_of(
        {"recipe": "iCD-KD", "global_verdict": "logits"},
        augmentation={"crop_flip": {"size": 28, "pad": 0, "resize": 32}},
    )
    plan = plan_cache([config], split, "stream", folder=tmp_path)
    assert [spec.own_logits for spec in plan.specs] == [True]
    batch = first_batch(config, split)
    side = cache_of(config, split, wide, tmp_path).outputs(batch, 1)
    with torch.no_grad():
        live = LiveOutputs(*wide(batch.images_BCHW), wide.head)
    assert live.features_BCHW.shape[2] == 7
    assert_close(side.logits_BK, live.logits_BK)
    assert_close(side.cells((1, 2, 4), 4), live.cells((1, 2, 4), 4))
    difference = (side.cells((1,), 4)[:, 0] - side.logits_BK).abs().max()
    assert difference > 1e-3, "else the row would not be needed"


@pytest.mark.parametrize("mode", ["full", "stream"])
def test_a_second_trial_never_runs_the_teacher(split: Split, teacher: Network, tmp_path: Path, mode: str) -> None:
    config = config_of()
    _, rows = trained(config, split, teacher, cache_of(config, split, teacher, tmp_path, mode))
    forwards = [row.values["teacher/images"] for row in rows]
    assert forwards[0] == len(split.train)
    other = config_of({"recipe": "SD-DKD", "scales": [1, 4]})
    _, rows = trained(other, split, teacher, cache_of(other, split, teacher, tmp_path, mode))
    assert [row.values["teacher/images"] for row in rows] == [0, 0]
    _, live = trained(config, split, teacher, None)
    assert [row.values["teacher/images"] for row in live] == [len(split.train)] * 2


def test_a_cache_serves_other_seeds_and_a_stream_does_not(split: Split, teacher: Network, tmp_path: Path) -> None:
    few: dict[str, Any] = {"augmentation": {"crop_flip": {"size": 16, "pad": 0}}}  # two views
    counts = {}
    for mode in ("full", "stream"):
        for seed in (0, 1):
            config = config_of(seed=seed, epochs=6, **few)
            cache = cache_of(config, split, teacher, tmp_path, mode)
            for epoch in range(1, 7):
                for batch in train_batches(config, split, split.train, epoch, Execution()):
                    cache.outputs(batch, epoch)
            counts[mode, seed] = cache.computed
    shown = len(split.train)
    assert counts["full", 0] <= 2 * shown
    assert counts["full", 0] + counts["full", 1] <= 2 * shown
    assert counts["stream", 0] == counts["stream", 1] == 6 * shown


def test_weights_drift_no_more_than_by_another_memory_format(split: Split, teacher: Network, tmp_path: Path) -> None:
    config = config_of(epochs=4, lr=0.001)  # with 0.05 any rounding grows to percents, whatever its cause
    live, _ = trained(config, split, teacher, None)
    cached, _ = trained(config, split, teacher, cache_of(config, split, teacher, tmp_path))
    other_format = replace(config, training=replace(config.training, channels_last=False))
    reformatted, _ = trained(other_format, split, teacher, None)
    start = build_model("resnet8", num_classes=10, stem="conv3x3", seed=config.seed)
    assert distance(live, start) > 1e-2
    assert 0 < distance(cached, live) < 2 * distance(reformatted, live)


def distance(one: Network, other: Network) -> float:
    a, b = (torch.cat([weight.detach().flatten() for weight in network.parameters()]) for network in (one, other))
    return float((a - b).norm() / b.norm())


def test_the_gradient_error_is_small(split: Split, teacher: Network, tmp_path: Path) -> None:
    config = config_of()
    batch = first_batch(config, split)
    student = build_model("resnet8", num_classes=10, stem="conv3x3", seed=1)
    method = config.method.build(None)
    with torch.no_grad():
        live = LiveOutputs(*teacher(batch.images_BCHW), teacher.head)
    gradients = []
    for side in (live, cache_of(config, split, teacher, tmp_path).outputs(batch, 1)):
        terms = method(
            LiveOutputs(*student(batch.images_BCHW), student.head), side, Step(batch.labels_B, batch.indices_B, 1, 0)
        )
        gradients.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(sum(terms.values()), list(student.parameters()))])
        )
    error = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    assert 0 < error < 1e-3, f"{error:.2e}"


def test_an_entry_has_the_same_bits_whoever_computes_it(split: Split, teacher: Network, tmp_path: Path) -> None:
    """In other company, and in a batch of another size."""
    config = config_of()
    blocks = []
    for name, size in (("a", 12), ("b", 7)):
        small = replace(config, training=replace(config.training, batch_size=size))
        cache = cache_of(small, split, teacher, tmp_path / name)
        for batch in train_batches(small, split, split.train, 1, Execution()):
            cache.outputs(batch, 1)
        blocks.append(cache.blocks[0])
    first, second = blocks
    slots = np.flatnonzero(~first.missing(np.arange(first.spec.num_slots)))
    assert len(slots) == len(split.train)
    assert np.array_equal(first._entries_SW[slots], second._entries_SW[slots])


def test_a_build_ahead_has_the_entries_of_the_trials_whatever_they_leave_open(
    split: Split, teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, asked = config_of(epochs=2), list[str]()

    def noted(device: torch.device, precision: str) -> nullcontext[None]:
        asked.append(precision)
        return nullcontext()

    _, rows = trained(config, split, teacher, cache_of(config, split, teacher, tmp_path / "trial"))
    open_config = replace(config, training=replace(config.training, channels_last="auto", precision="auto"))
    ahead = cache_of(open_config, split, teacher, tmp_path / "ahead")
    monkeypatch.setattr(cache_builder, "kernels", noted)
    assert build(ahead, split, Execution()) == sum(row.values["teacher/images"] for row in rows)
    theirs = cache_of(config, split, teacher, tmp_path / "trial").blocks[0]
    assert np.array_equal(ahead.blocks[0]._entries_SW, theirs._entries_SW)
    assert build(ahead, split, Execution()) == 0
    assert asked == ["fp32"] * 2, "the kernels of a trial"


WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from icd.training.checkpoints import weights_digest
from tests.integration.test_teacher_cache import *
split = images()
teacher = build_model("resnet14", num_classes=10, stem="conv3x3", seed=7).eval().requires_grad_(False)
config = config_of(epochs=3)
cache = cache_of(config, split, teacher, Path(sys.argv[2]))
network, rows = trained(config, split, teacher, cache)
print(json.dumps([cache.computed, weights_digest(network.state_dict())]))
"""


def test_trials_at_once_share_the_work_and_end_with_equal_weights(
    split: Split, teacher: Network, tmp_path: Path
) -> None:
    """Each opens the files anew, as a process does: locks belong to an opening (test_byte_locks.py)."""
    config = config_of(epochs=3)

    def work(_: int) -> tuple[int, str]:
        cache = cache_of(config, split, teacher, tmp_path)
        network, _rows = trained(config, split, teacher, cache)
        return cache.computed, weights_digest(network.state_dict())

    with ThreadPoolExecutor(2) as pool:
        (first, one), (second, other) = pool.map(work, range(2))
    (spec,) = plan_cache([config], split, "stream", folder=tmp_path).specs
    block = Block(block_folder(tmp_path, spec), spec)
    assert (block.filled(), block.damaged()) == (spec.num_slots, 0), "nothing missing"
    block.close()
    assert first + second == 3 * len(split.train) == spec.num_slots, "nothing computed twice"
    assert one == other


# The planner


def chosen(config: TrialConfig, split: Split, folder: Path, *more: TrialConfig, **options: Any) -> tuple[str, str]:
    plan = plan_cache([config, *more], split, options.pop("mode", "auto"), folder=folder, **{"trials": 20, **options})
    return plan.mode, summary(plan)


def test_the_network_around_the_weights_and_its_plugin_are_part_of_what_a_cache_is_of(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plugin_of(name: str) -> Plugin:
        return Plugin(name="net.py", digest=f"digest {len(found)}")

    def digests(**network: Any) -> set[str]:
        config = config_of()
        assert config.teacher is not None
        config = replace(config, teacher=replace(config.teacher, **network))
        return {spec.digest() for spec in plan_cache([config], split, "full", folder=tmp_path).specs}

    found = [digests()]
    assert digests(arch="wrn_16_1") != found[0] != digests(stem="conv7x7_s2")
    monkeypatch.setattr(MODELS, "owner", plugin_of)
    found.append(digests())
    found.append(digests())
    assert found[0] != found[1] != found[2] != found[0]


def test_the_teacher_is_run_on_as_many_images_as_suit_where_it_is_now(
    split: Split, teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = copy.deepcopy(teacher)
    cache = cache_of(config_of(), split, moved, tmp_path)
    assert cache.chunk == 16
    elsewhere = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(moved, "parameters", lambda: iter([elsewhere]))
    assert cache.chunk == 256, "train() moves it once the cache is open"
    cache.close()


def test_the_smaller_one_that_fits_is_taken(split: Split, tmp_path: Path) -> None:
    short, long = config_of(epochs=2), config_of(epochs=500)
    assert chosen(short, split, tmp_path)[0] == "stream"
    assert chosen(long, split, tmp_path)[0] == "full"
    seeds = config_of(epochs=20), config_of(seed=1, epochs=20)
    assert chosen(seeds[0], split, tmp_path, seeds[1], trials=2)[0] == "full", "seeds see other sequences"
    mode, line = chosen(short, split, tmp_path, budget_gb=1e-6)
    assert mode == "off"
    told = "stream needs 32.7 kB, but got 1 kB of budget and disk; full needs 818 kB, but got 1 kB of budget and disk"
    assert line == f"teacher runs live: {told}"


def test_a_cache_that_few_trials_would_share_is_not_worth_it(split: Split, tmp_path: Path) -> None:
    magnitudes = [{"rand_augment": {"size": 16, "pad": 2, "magnitude": magnitude}} for magnitude in (0, 20)]
    few, many = (config_of(epochs=2, augmentation=views) for views in magnitudes)
    assert chosen(few, split, tmp_path, many, trials=20)[0] == "stream"
    mode, line = chosen(few, split, tmp_path, many, trials=2)
    assert (mode, "stream needs 65.4 kB, but saves 0% of the teacher's work" in line) == ("off", True)
    lengths = config_of(epochs=2), config_of(epochs=3)
    assert chosen(lengths[0], split, tmp_path, lengths[1], trials=20)[0] == "stream"
    mode, line = chosen(lengths[0], split, tmp_path, lengths[1], trials=2)
    assert (mode, "stream needs 81.8 kB, but saves 0% of the teacher's work" in line) == ("off", True)


def test_a_cache_has_room_for_every_seed_that_trials_may_have(split: Split, tmp_path: Path) -> None:
    """Seeds in ranges are given by their ends; each has a sequence of its own, for every grid."""
    ends = config_of(), config_of({"recipe": "iCD-KD", "scales": [1, 3]}, seed=9)
    ranges = {"seed": range(10)}

    def plan(trials: int, mode: Any = "stream", **options: Any) -> CachePlan:
        return plan_cache(ends, split, mode, folder=tmp_path, trials=trials, ranges=ranges, **options)

    (three, four) = plan_cache(ends[1:], split, "stream", folder=tmp_path).specs
    assert (three.side, four.side) == (3, 4)
    one = four.num_bytes + three.num_bytes
    assert {spec.sequence for spec in plan(30).specs} == {(seed, 2) for seed in range(10)}
    assert (len(plan(30).specs), plan(30).num_bytes, plan(4).num_bytes) == (20, 10 * one, 4 * one)
    with pytest.raises(SetupError, match="--teacher-cache stream needs"):
        plan(30, budget_gb=9.9 * one / 1e9)
    assert plan(30, "auto").mode == "stream"
    assert plan(30, "auto", budget_gb=9.9 * one / 1e9).mode == "off"
    assert plan(12, "auto").mode == "full", "most trials have a seed of their own"


def test_a_cache_has_room_for_every_grid_and_for_views_in_ranges(split: Split, tmp_path: Path) -> None:
    config = config_of({"recipe": "iCD-KD", "scales": [1, 3], "grid": 2})
    ranges = {"method.grid": [2, 3, 4], "training.augmentation.crop_flip.pad": [0, 1]}
    plan = plan_cache([config], split, "full", folder=tmp_path, trials=5, ranges=ranges)
    assert sorted((spec.side, spec.from_map) for spec in plan.specs) == [(2, False), (3, False), (3, True), (4, False)]
    assert plan.num_bytes == 5 * sum(spec.num_bytes for spec in plan.specs)
    assert plan_cache([config], split, folder=tmp_path, trials=5, ranges=ranges).mode == "off"


def test_what_earlier_teachers_were_promised_is_not_promised_again(
    split: Split, teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**9 + 50_000))
    config = config_of()
    assert config.teacher is not None
    other = replace(config, teacher=replace(config.teacher, digest="u" * 64))
    first = plan_cache([config], split, folder=tmp_path, trials=2)
    assert (first.mode, first.to_come(tmp_path)) == ("stream", first.num_bytes)
    assert plan_cache([other], split, folder=tmp_path, promised=first.to_come(tmp_path), trials=2).mode == "off"
    with closing(TeacherCache(tmp_path, first, config, teacher)) as cache:
        build(cache, split, Execution())
    assert first.to_come(tmp_path) == 0, "what is written is no longer promised"
    assert plan_cache([config], split, folder=tmp_path, promised=first.num_bytes).mode == "stream", "it is there"
    assert plan_cache([other], split, folder=tmp_path, promised=first.to_come(tmp_path), trials=2).mode == "stream"


def test_a_build_looks_through_what_is_there_by_steps_and_stops_between_them(
    split: Split, teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_builder, "_LOOKED_THROUGH", 32)
    cache, told = cache_of(config_of(), split, teacher, tmp_path), list[tuple[int, int, int]]()
    build(cache, split, Execution())
    again = cache_of(config_of(), split, teacher, tmp_path)
    assert build(again, split, Execution(progress=lambda *step: told.append(step))) == 0
    assert told == [(0, 32, 100), (0, 64, 100), (0, 96, 100), (0, 100, 100)]
    with pytest.raises(Interrupted, match="stopped with 32 of 100 entries; the same command goes on"):
        build(cache_of(config_of(), split, teacher, tmp_path), split, Execution(stop=lambda: True))


def test_the_scale_ablation_keeps_a_stream_for_each_seed_and_says_what_is_lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**12))
    space = SearchSpace(read_sweep(read_yaml(Path(__file__).parents[2] / "search_spaces" / "ablation_scales.yaml")))
    configs = [pinned(config) for config in space.extremes()]
    cub: Any = SimpleNamespace(train=range(5394), num_classes=200, mean=(0.5,) * 3, std=(0.5,) * 3)

    def told(budget_gb: float) -> str:
        return summary(plan_cache(configs, cub, folder=tmp_path, budget_gb=budget_gb, **space.extent()))

    assert told(32) == "teacher cache: stream of 24.9 GB (full 75.3 GB, stream 24.9 GB)"
    lacking = "needs {} GB, but got 20 GB of budget and disk"
    assert told(20) == f"teacher runs live: stream {lacking.format(24.9)}; full {lacking.format(75.3)}"


def test_what_was_chosen_for_a_sweep_is_not_asked_room_for_again(
    split: Split, teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**9 + 1))
    with pytest.raises(SetupError, match="--teacher-cache full needs 818 kB, but got 1 bytes"):
        chosen(config_of(), split, tmp_path, mode="full")
    with open_teacher_cache(config_of(), split, teacher, TrialFolders(root=tmp_path), "full") as cache:
        assert cache is not None


def test_what_a_trial_alone_gets(split: Split, tmp_path: Path) -> None:
    mode, line = chosen(config_of(epochs=2), split, tmp_path, trials=1)
    assert (mode, "full needs 818 kB, but saves 1% of the teacher's work" in line) == ("off", True)
    assert chosen(config_of(epochs=240), split, tmp_path, trials=1)[0] == "full"


def test_what_needs_features_runs_live(split: Split, tmp_path: Path) -> None:
    assert chosen(config_of("SP"), split, tmp_path) == (
        "off",
        "teacher runs live: features are compared, a cache holds logits",
    )
    assert chosen(config_of("SP"), split, tmp_path, config_of())[0] == "stream", "the others have one all the same"
    with pytest.raises(ConfigError, match="--teacher-cache stream: features are compared"):
        chosen(config_of("SP"), split, tmp_path, mode="stream")


def test_a_sweep_goes_on_as_it_was_begun(split: Split, tmp_path: Path) -> None:
    """A cache's rounding is not a live teacher's, so room on the disk must not decide anew."""
    config, folder = config_of(), TrialFolders(root=tmp_path).teacher_cache
    assert config.teacher is not None
    name, pinned = teacher_name(config), replace(config, teacher=replace(config.teacher, digest="t" * 64))

    def mode(request: PreflightRequest) -> str:
        asked = cache_mode(request, name, [config])
        return plan_cache([pinned], split, asked, folder=folder, trials=2).mode

    fresh = PreflightRequest(configs=[], root=str(tmp_path))
    assert mode(fresh) == "stream"
    assert mode(replace(fresh, teacher_caches={name: "off"})) == "off"
    assert mode(replace(fresh, teacher_caches={name: "off"}, teacher_cache="full")) == "full"


def test_what_is_asked_for_and_does_not_fit(split: Split, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"--teacher-cache full needs 818 kB, but got 100 kB of budget and disk"):
        chosen(config_of(), split, tmp_path, mode="full", budget_gb=0.0001)
    assert chosen(config_of(), split, tmp_path, mode="off")[0] == "off"
