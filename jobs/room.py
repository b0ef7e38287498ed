"""Asks the cluster's autoscaler to have room for N trials at a time, from now on; N = 0 withdraws the request.

A sweep asks for no more than fits unless its file says resources.autoscale, so by itself it makes no autoscaler start a
node; nodes that come are used at once.

ray job submit -- python jobs/room.py 16 --cpus 2 --gpus 0.25
"""

import argparse

import ray
from ray.autoscaler.sdk import request_resources


def main() -> None:
    """Read the words and ask."""
    parser = argparse.ArgumentParser(description="Ask the autoscaler for room for N trials at a time; 0 withdraws it.")
    parser.add_argument("trials", type=int, metavar="N")
    parser.add_argument("--cpus", type=float, default=1.0, help="of each trial, as resources.cpus_per_trial [1]")
    parser.add_argument("--gpus", type=float, default=0.0, help="of each trial, as resources.gpus_per_trial [0]")
    words = parser.parse_args()
    if words.trials < 0:
        parser.error(f"N >= 0 must hold, but got {words.trials}")
    ray.init(address="auto", log_to_driver=False)
    request_resources(bundles=[{"CPU": words.cpus, "GPU": words.gpus}] * words.trials)


main()
