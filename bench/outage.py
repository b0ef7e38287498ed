"""What a tracking server that is away costs: epochs a second, and rows of metrics that are lost or doubled.

    python bench/outage.py [--quick] [--windows 6] [--seconds 20] [--away 60] [--kills 10]

Sweeps of small trials in plain processes, with MLflow's server killed and started again.

    rate        one sweep, in windows with and without a server that take turns, so that what else the machine does
                falls on both kinds; a server that starts is outside every window. ``with``, ``without``: epochs a
                second, mean and standard deviation over the windows; ``ratio``: without over with, 1 where an outage
                costs nothing; ``gap_s``: the longest time between two epochs, of each kind
    away        the server is away for ``--away`` seconds
    whole       it is away for the whole sweep, and ``icd sync`` sends everything afterwards
    killed      it is killed ``--kills`` times while the sweep runs

For each of the last three: how many rows MLflow should have, how many are ``lost`` and ``doubled``, and how many trials
have more or fewer ``runs`` than one.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from icd.search import sync
from icd.search.study.sweep_index import find
from tests.crash.served import Drive, Harness
from tests.tiny import unpruned
from tests.tracking import Held, Server


def main() -> None:
    """Run, and print the figures on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two windows of each kind of three seconds")
    parser.add_argument("--windows", type=int, default=6, help="of each kind")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--away", type=float, default=60.0, help="seconds")
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    windows, seconds, away, kills = options.windows, options.seconds, options.away, options.kills
    if options.quick:
        windows, seconds, away, kills = 2, 3.0, 10.0, 2
    with tempfile.TemporaryDirectory(prefix="icd-outage-") as folder:
        server = Server(Path(folder))
        server.start()
        told: dict[str, Any] = {}
        try:
            told["rate"] = measure(server, Path(folder) / "rate", windows, seconds)
            told["away"] = lossless(server, Path(folder) / "away", lambda: absent(server, away))
            told["killed"] = lossless(server, Path(folder) / "killed", lambda: killed(server, kills))
            server.kill()
            told["whole"] = lossless(server, Path(folder) / "whole", lambda: time.sleep(away), after=server.start)
        finally:
            server.kill()
    json.dump(told, sys.stdout, indent=1)


def absent(server: Server, seconds: float) -> None:
    """Take the server away for a while."""
    server.kill()
    time.sleep(seconds)
    server.start()


def killed(server: Server, times: int) -> None:
    """Kill the server again and again, a second after it answers."""
    for _ in range(times):
        time.sleep(1.0)
        server.kill()
        server.start()


def lossless(
    server: Server, root: Path, disturb: Callable[[], None], after: Callable[[], None] = lambda: None
) -> dict[str, int]:
    """Drive a sweep while the server is disturbed, send the rest, and compare MLflow with the trials' folders."""
    harness = Harness(MLFLOW_TRACKING_URI=server.uri)
    changes = unpruned(40, trials=100_000)  # ended by the stop file
    drive = harness.drive(harness.root(root), changes=changes, flush_s=30.0)  # as a user's
    drive.until_epoch(0, 5)
    disturb()
    (drive.folder / "stop").write_text("drain")
    if code := drive.wait(240):
        raise SystemExit(f"the sweep ended with {code}: {drive.errors}")
    after()
    os.environ["MLFLOW_TRACKING_URI"] = server.uri
    waiting = sync("crash", root=root, deadline_s=240)
    ledger = find(root, "crash")
    trials = {f"{record.number:04d}" for record in ledger.records() if record.state != "duplicate"}
    rows = {(trial, epoch) for trial in trials for epoch in range(1, 41)}
    held = Held(server.database, ledger.attributes["uid"])
    found = Counter((run, step) for run, key, step, *_ in held.metrics if key == "val/top1")
    return {
        "trials": len(trials),
        "rows": len(rows),
        "lost": len(rows - found.keys()),
        "doubled": sum(found.values()) - len(found),
        "runs": sum(count != 1 for run, count in Counter(held.active).items() if run != "summary")
        + len(trials - set(held.active)),
        "waiting": waiting,
    }


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
