"""What a tracking server that is away costs: epochs a second with and without it, in windows that take turns.

    python bench/outage.py [--quick] [--windows 6] [--seconds 20]

One sweep of small trials in plain processes, with MLflow's server killed and started again. The windows take turns, so
that what else the machine does falls on both kinds; a server that starts is outside every window.

    with, without   epochs a second, mean and standard deviation over the windows
    ratio           without over with; 1 where an outage costs nothing
    gap_s           the longest time between two epochs, of each kind
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.crash.served import Drive, Harness
from tests.tiny import unpruned
from tests.tracking import Server


def main() -> None:
    """Run, and print the figures on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two windows of each kind of three seconds")
    parser.add_argument("--windows", type=int, default=6, help="of each kind")
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    windows, seconds = (2, 3.0) if options.quick else (options.windows, options.seconds)
    with tempfile.TemporaryDirectory(prefix="icd-outage-") as folder:
        server = Server(Path(folder))
        server.start()
        try:
            told = measure(server, Path(folder) / "root", windows, seconds)
        finally:
            server.kill()
    json.dump(told, sys.stdout, indent=1)


def measure(server: Server, root: Path, windows: int, seconds: float) -> dict[str, Any]:
    """Drive a sweep through all windows and count the epochs in each."""
    harness = Harness(MLFLOW_TRACKING_URI=server.uri)
    drive = harness.drive(harness.root(root), changes=unpruned(40, trials=100_000))  # ended by the stop file
    drive.until_epoch(1, 1)
    seen: list[tuple[str, float, float]] = []
    for _ in range(windows):
        for kind in ("with", "without"):
            begun = time.time()
            time.sleep(seconds)
            seen.append((kind, begun, time.time()))
            if kind == "with":
                server.kill()
            else:
                server.start()
    (drive.folder / "stop").write_text("now")
    if code := drive.wait(240):
        raise SystemExit(f"the sweep ended with {code}: {drive.errors}")
    return summary(epoch_times(drive), seen)


def epoch_times(drive: Drive) -> list[float]:
    """When epochs ended, by the workers' own clocks, over all trials."""
    lines = [line for file in drive.folder.glob("trials/*/metrics.jsonl") for line in file.read_text().splitlines()]
    return sorted(json.loads(line)["time"] for line in lines if line.endswith("}"))


def summary(times: list[float], windows: list[tuple[str, float, float]]) -> dict[str, Any]:
    """Give rates, their ratio, and the longest gaps."""
    rates: dict[str, list[float]] = {"with": [], "without": []}
    gaps = {"with": 0.0, "without": 0.0}
    for kind, begun, ended in windows:
        inside = [moment for moment in times if begun <= moment <= ended]
        rates[kind].append(len(inside) / (ended - begun))
        gaps[kind] = max(gaps[kind], *(b - a for a, b in itertools.pairwise([begun, *inside, ended])))
    means = {kind: statistics.mean(values) for kind, values in rates.items()}
    told = {kind: {"mean": means[kind], "sd": statistics.stdev(values)} for kind, values in rates.items()}
    return {**told, "ratio": means["without"] / means["with"], "gap_s": gaps}


if __name__ == "__main__":
    main()
