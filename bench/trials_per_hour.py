"""How many trials a core does in an hour: ours with the teacher's cache against the plain way, whole processes.

    python bench/trials_per_hour.py [--quick] [--rounds 3] [--pairs resnet32x4/mobilenetv2,...] [--live]

Arms take turns, each trial in a process of its own with one thread; CPU seconds of the whole process, imports and
data included, as the process counts them. 202 steps of 64 images of 32 x 32, K = 100, iCD-KD on scales 1, 2, 4.

    build       CPU seconds of the trial that fills the cache, less those of one that reads it
    ratio       plain over ours, the cache there already; medians over the rounds
    ratio_N     the same with the build shared by N trials
    live_s      with --live: CPU seconds of ours with a live teacher
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from paired import ratio

PAIRS = ("resnet32x4/mobilenetv2", "resnet32x4/resnet8x4", "vgg13/vgg8")
STEPS = 202
AMONG = (16, 64, 256)
HERE = Path(__file__).parent


def main() -> None:
    """Run, print a table on stderr and the figures on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of the first pair")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--live", action="store_true", help="also time our trial with a live teacher")
    options = parser.parse_args()
    pairs = PAIRS[:1] if options.quick else options.pairs.split(",")
    rows = []
    for pair in pairs:
        with tempfile.TemporaryDirectory(prefix="icd-bench-") as folder:
            rows.append(compare(pair, 1 if options.quick else options.rounds, Path(folder), live=options.live))
        heads = [name for name in rows[-1] if name not in ("rounds", "all")]
        print("  ".join(f"{head} {_shown(rows[-1][head])}" for head in heads), file=sys.stderr, flush=True)
    json.dump(rows, sys.stdout, indent=1)
    print()


def compare(pair: str, rounds: int, folder: Path, *, live: bool) -> dict[str, Any]:
    """Let the arms take turns on one pair."""
    cached = [str(HERE / "cached.py"), "--pair", pair, "--teacher-cache", str(folder)]
    filling = _cpu(cached)
    arms = {"plain": [str(HERE / "plain.py"), "--pair", pair, "--steps", str(STEPS)], "ours": cached}
    if live:
        arms["live"] = [*cached, "--live"]
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, words in arms.items():
            taken[name].append(_cpu(words))
    row: dict[str, Any] = {"pair": pair, "rounds": rounds, "all": taken}
    row |= {f"{name}_s": statistics.median(values) for name, values in taken.items()}
    row["build_s"] = filling - row["ours_s"]
    row["ratio"] = ratio(taken["plain"], taken["ours"])
    for among in AMONG:
        row[f"ratio_{among}"] = row["plain_s"] / (row["ours_s"] + row["build_s"] / among)
    return row


def _cpu(words: list[str]) -> float:
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout)["cpu_s"])


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
