"""Does the teacher's cache change anything but the bill? A sweep with it, and five seeds, against no cache.

    python bench/cached_or_live.py FILE [--data-root FOLDER] [--trials 16] [--seeds 5] [--quick]

FILE is a sweep with iCD-KD among its baselines. Both arms run the same trials: random sampling, no pruning, the teacher
trained before. CPU seconds are those of the command and all its processes.

    sweep   CPU seconds of both arms, and images that the teacher was run on
    seeds   validation top-1 of the iCD-KD baseline, live and from a cache, same initial weights and same views
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from icd.config.read_sweep import read_sweep
from icd.config.trial import TrialConfig
from icd.config.yaml import read_yaml
from icd.search.suggest.search_space import SearchSpace
from icd.teacher.cache_plan import CacheMode
from icd.teacher.store import prepare
from icd.training.loop import EpochMetrics, Execution
from icd.worker.single_trial import run_trial
from icd.worker.trial_inputs import TrialFolders, read_data

COMMAND = "import sys; from icd.cli.main import main; sys.exit(main())"
ARMS: tuple[CacheMode, ...] = ("off", "stream")


def main() -> None:
    """Run both arms, and print what they cost and reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="3 trials and 2 seeds")
    options = parser.parse_args()
    trials, seeds = (3, 2) if options.quick else (options.trials, options.seeds)
    with tempfile.TemporaryDirectory(prefix="icd-bench-") as folder:
        root = Path(folder) / "first"
        places, config = TrialFolders(root=root, data_root=options.data_root), baseline_of(options.file)
        prepare(config, read_data(config, places)[1], places.teachers, Execution())
        told: dict[str, Any] = {"file": options.file.name, "sweep": {}}
        for arm in ARMS:
            own = Path(folder) / arm
            shutil.copytree(root / "teachers", own / "teachers")
            told["sweep"][arm] = run_sweep(options.file, arm, own, options.data_root, trials)
            print(arm, json.dumps(told["sweep"][arm]), file=sys.stderr, flush=True)
        told["seeds"] = run_seeds(config, places, seeds)
    json.dump(told, sys.stdout, indent=1)
    print()


def run_sweep(file: Path, arm: str, root: Path, data_root: Path | None, trials: int) -> dict[str, Any]:
    """Run the sweep to its end; CPU seconds of everything, and what the teacher did."""
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    changes = [f"budget={{trials: {trials}}}", "sampler={name: random}", "pruner={name: none}"]
    words = [word for change in changes for word in ("--set", change)]
    words += ["--executor", "process", "--teacher-cache", arm]
    _icd("sweep", str(file), *words, root=root, data_root=data_root)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = [json.loads(line) for path in root.glob("sweeps/*/trials/*/metrics.jsonl") for line in path.open()]
    return {
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "wall_s": time.monotonic() - began,
        "trials": len(list(root.glob("sweeps/*/trials/*/result.json"))),
        "epochs": len(rows),
        "teacher_images": int(sum(row["teacher/images"] for row in rows)),
    }


def baseline_of(file: Path) -> TrialConfig:
    """Give the sweep's iCD-KD baseline."""
    space = SearchSpace(read_sweep(read_yaml(file)))
    (found,) = (baseline for baseline in space.sweep.enqueue if baseline.label == "iCD-KD")
    return space.read(space.baseline(found))


def run_seeds(config: TrialConfig, places: TrialFolders, seeds: int) -> dict[str, Any]:
    """Train with several seeds, each live and from a cache of its own sequence of views."""
    reached: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for seed in range(seeds):
        for arm in ARMS:
            reached[arm].append(_top1(replace(config, seed=seed), f"{arm}-{seed}", places, arm))
        print("seed", seed, *(f"{arm} {reached[arm][-1]:.2f}" for arm in ARMS), file=sys.stderr, flush=True)
    gaps = [cache - live for live, cache in zip(*(reached[arm] for arm in ARMS), strict=True)]
    error = statistics.stdev(gaps) / len(gaps) ** 0.5
    spread = {f"{arm}_stdev": statistics.stdev(reached[arm]) for arm in ARMS}
    return {**reached, "mean_gap": statistics.mean(gaps), "standard_error": error, **spread}


def _top1(config: TrialConfig, name: str, places: TrialFolders, arm: CacheMode) -> float:
    told: list[EpochMetrics] = []
    run_trial(config, name, places, Execution(report=told.append), teacher_cache=arm)
    return told[-1].values["val/top1"]


def _icd(*words: str, root: Path, data_root: Path | None) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    there = ["--data-root", str(data_root)] if data_root else []
    subprocess.run(
        [sys.executable, "-c", COMMAND, *words, "--root", str(root), *there],
        stdout=sys.stderr,
        stderr=subprocess.DEVNULL,
        check=True,
        env=environment,
    )


if __name__ == "__main__":
    main()
