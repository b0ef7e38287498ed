"""Does a sweep keep up with more nodes? Simulated ones: raylets of this machine with one CPU each, epochs that sleep.

    python bench/weak_scaling.py [--quick] [--nodes 1,2,4,8,16,32,64] [--epochs 20] [--per-node 3] [--seconds 1]

Every size is a process and a cluster of its own, with a head that runs no trial. A node has one place; the sweep has
``per-node`` trials for each, of ``epochs`` epochs of ``seconds``. The real space, sampler, ledger (sqlite, every commit
synced), MLflow, Ray Tune and workers; only training is left out, so all they cost is overhead.

    efficiency   epochs in a second over those of nodes that wait for nobody: nodes / seconds. From the first epoch that
                 any node can have ended to the last epoch of the sweep, so turns between trials count, starts do not
    driver_cpu   share of one core that the driver took meanwhile; near 1 it is the limit
    machine_cpu  share of all cores that were busy: near 1 this machine is the limit, not the sweep
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import no_op
import synthetic

HERE = Path(__file__).parent
SLEEP = "ICD_BENCH_EPOCH_S"
_QUIET: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 80 << 20}


def attempt(task: Any, send: Any, *, progress: Any) -> Any:
    """Sleep for every epoch instead of training."""
    seconds, due = float(os.environ[SLEEP]), time.monotonic()

    def after_its_time(epoch: Any) -> bool:
        nonlocal due
        due = max(due + seconds, time.monotonic())  # training goes on while an epoch is told
        time.sleep(max(0.0, due - time.monotonic()))
        return bool(send(epoch))

    return no_op.no_op(task, after_its_time)


class Watched:
    """The driver, and when its epochs came."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.times: list[float] = []
        self.asks: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)

    def next_attempt(self) -> Any:
        began = time.perf_counter()
        task = self.driver.next_attempt()
        if task is not None:
            self.asks.append(time.perf_counter() - began)
        return task

    def on_epoch(self, epoch: Any) -> bool:
        self.times.append(time.monotonic())
        return bool(self.driver.on_epoch(epoch))


def one_size(nodes: int, epochs: int, per_node: int, seconds: float) -> dict[str, Any]:
    """Run a sweep on so many nodes."""
    from ray.cluster_utils import Cluster

    from icd.config.sweep import Resources
    from icd.search.executors.ray.executor import RayExecutor

    began = time.monotonic()
    cluster = Cluster()
    cluster.add_node(num_cpus=0, **_QUIET)
    for _ in range(nodes):
        cluster.add_node(num_cpus=1, wait=False, **_QUIET)
    cluster.wait_for_nodes(timeout=600)
    started = time.monotonic() - began
    trials = nodes * per_node
    with tempfile.TemporaryDirectory(prefix="icd-bench-") as name:
        plain = synthetic.document("scaling", trials=trials, epochs=epochs)
        watched = Watched(synthetic.driver_for(Path(name), plain))
        executor = RayExecutor(
            Resources(gpus_per_trial=0),
            watched.driver.context.folder,
            address=cluster.address,
            announce=lambda line: None,
            attempt=attempt,
        )
        busy, idle = synthetic.cpu_s(), idle_s()
        began = time.monotonic()
        executor.run(watched, lambda: None)
        wall = time.monotonic() - began
        busy, idle = synthetic.cpu_s() - busy, idle_s() - idle
        states = [record.state for record in watched.ledger.records()]
        executor.close()
    cluster.shutdown()
    assert states == ["complete"] * trials, states
    assert len(watched.times) == trials * epochs
    # The nodes do not begin at once: count from the moment when as many epochs had come as there are nodes.
    counted = len(watched.times) - nodes
    took = watched.times[-1] - watched.times[nodes - 1]
    return {
        "nodes": nodes,
        "trials": trials,
        "efficiency": counted / took * seconds / nodes,
        "epochs_a_second": counted / took,
        "driver_cpu": busy / wall,
        "machine_cpu": 1 - idle / (wall * (os.cpu_count() or 1)),
        "ask_p50_ms": synthetic.spread(watched.asks)["p50_ms"],
        "ask_p99_ms": synthetic.spread(watched.asks)["p99_ms"],
        "rss_mb": synthetic.rss_mb(),
        "start_s": started,
        "wall_s": wall,
    }


def idle_s() -> float:
    """Seconds that the machine's cores were idle, added up."""
    with Path("/proc/stat").open() as file:
        fields = file.readline().split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run, print a table on stderr and the figures on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one and two nodes, short trials")
    parser.add_argument("--nodes", default="1,2,4,8,16,32,64")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--per-node", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    epochs, per_node = (5, 2) if options.quick else (options.epochs, options.per_node)
    if options.one:
        print(json.dumps(one_size(options.one, epochs, per_node, options.seconds)))
        return
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", SLEEP: str(options.seconds)}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.urandom(32).hex()}  # no sweep joins a cluster without
    environment = {**os.environ, **quiet, **token, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    rows: list[dict[str, Any]] = []
    for nodes in [1, 2] if options.quick else [int(word) for word in options.nodes.split(",")]:
        more = [f"--epochs={epochs}", f"--per-node={per_node}", f"--seconds={options.seconds}"]
        command = [sys.executable, __file__, f"--one={nodes}", *more, *(["--quick"] if options.quick else [])]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False, text=True)
        if done.returncode:
            print(f"{nodes} nodes: this machine cannot carry them (exit {done.returncode})", file=sys.stderr)
            break
        rows.append({"load_before": os.getloadavg()[0], **json.loads(done.stdout.strip().splitlines()[-1])})
        synthetic.table(rows[-1:], list(rows[-1]))
    synthetic.table(rows, list(rows[0]) if rows else [])
    json.dump({"machine": synthetic.machine(), "rows": rows}, sys.stdout, indent=1)
    print()
    if not rows:
        sys.exit("no size could be carried")


if __name__ == "__main__":
    main()
