"""How many trials a core does in an hour: ours with the teacher's table against the plain way, whole processes.

    python bench/trials_per_hour.py [--quick] [--rounds 3] [--pairs resnet32x4/mobilenetv2,...]

Arms take turns, each trial in a process of its own with one thread; CPU seconds of the whole process, imports and
data included, as the process counts them. 202 steps of 64 images of 32 x 32, K = 100, iCD-KD on scales 1, 2, 4.

    build       CPU seconds of the trial that fills the table, less those of one that reads it
    ratio       plain over ours, the table there already; medians over the rounds
    ratio_N     the same with the build shared by N trials
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

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
    options = parser.parse_args()
    pairs = PAIRS[:1] if options.quick else options.pairs.split(",")
    rows = []
    for pair in pairs:
        with tempfile.TemporaryDirectory(prefix="icd-bench-") as folder:
            rows.append(compare(pair, 1 if options.quick else options.rounds, Path(folder)))
        heads = ["pair", "plain_s", "live_s", "ours_s", "build_s", "ratio", *(f"ratio_{n}" for n in AMONG)]
        print("  ".join(f"{head} {_shown(rows[-1][head])}" for head in heads), file=sys.stderr, flush=True)
    json.dump(rows, sys.stdout, indent=1)
    print()


def compare(pair: str, rounds: int, folder: Path) -> dict[str, Any]:
    """Let the arms take turns on one pair."""
    tabled = [str(HERE / "tabled.py"), "--pair", pair, "--tables", str(folder)]
    filling = _cpu(tabled)
    plain, live, ours = [], [], []
    for _ in range(rounds):
        plain.append(_cpu([str(HERE / "plain.py"), "--pair", pair, "--steps", str(STEPS)]))
        ours.append(_cpu(tabled))
        live.append(_cpu([*tabled, "--live"]))
    row: dict[str, Any] = {"pair": pair, "rounds": rounds, "all": {"plain": plain, "ours": ours, "live": live}}
    row |= {"plain_s": statistics.median(plain), "ours_s": statistics.median(ours), "live_s": statistics.median(live)}
    row["build_s"] = filling - row["ours_s"]
    row["ratio"] = statistics.median(a / b for a, b in zip(plain, ours, strict=True))
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
