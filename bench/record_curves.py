"""Record learning curves over a whole search space: a design of configurations as a sweep, and the table of its curves.

    python bench/record_curves.py design bench/recordings/digits100.yaml 100 -o design.yaml
    icd sweep design.yaml                      # stop it at any time; the same command goes on
    python bench/record_curves.py table curves-digits100 -o curves-digits100.json

Where the folder of the first points is gone, a sweep of the others goes on from its table:

    python bench/record_curves.py design bench/recordings/digits100.yaml 128 --skip 20 -o design.yaml
    python bench/record_curves.py table curves-digits100 --after curves-20.json -o curves-digits100.json

The same design on another pair, the best of a table first; and those alone again, with other seeds:

    python bench/record_curves.py design bench/recordings/digits100-wrn.yaml 128 --best TABLE:10 -o design.yaml
    python bench/record_curves.py design ... 128 --best TABLE:10 OTHER:5 --alone --trial-seeds 1 2 3 4 -o again.yaml

The design is a Sobol sequence, one dimension for each parameter of the space, also for those that not every
configuration has. Every point is enqueued, so the sweep trains exactly these, each in the order of the sequence.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import qmc

from icd.config.ranges import Choice, Interval
from icd.config.read_sweep import read_sweep
from icd.config.space import trial_document
from icd.config.sweep import Baseline, Budget, SweepConfig
from icd.config.walk import dimensions
from icd.config.yaml import read_yaml


class _Point:
    """Answers each question of a space from one point of the unit cube."""

    def __init__(self, place: Mapping[str, int], unit_D: np.ndarray) -> None:
        self.place, self.unit_D = place, unit_D

    def __call__(self, name: str, node: Choice | Interval) -> Any:
        share = float(self.unit_D[self.place[name]])
        if isinstance(node, Choice):
            return node.labels[int(share * len(node.labels))]
        if node.finite:
            values = node.values()
            return values[int(share * len(values))]
        if node.log:
            return float(f"{node.low * (node.high / node.low) ** share:.4g}")
        return float(f"{node.low + (node.high - node.low) * share:.4g}")


def designed(sweep: SweepConfig, points: int, seed: int, numbers: Sequence[int], seeds: Sequence[int]) -> SweepConfig:
    """Give the sweep that trains some of the ``points`` points of a Sobol sequence over the space of ``sweep``.

    Args:
        sweep: What is searched.
        points: Length of the sequence.
        seed: Of the sequence.
        numbers: Which points, in the order wanted.
        seeds: Of each point's trainings.
    """
    names = [row.name for row in dimensions(sweep.template)]
    place = {name: index for index, name in enumerate(names)}
    cube_PD = qmc.Sobol(len(names), scramble=True, rng=seed).random(points)
    runs = []
    for own in seeds:
        for number in numbers:
            document = trial_document(sweep.template, _Point(place, cube_PD[number]))
            changes = {part: document[part] for part in ("method", "training")}
            label = f"point-{number:04d}"
            runs.append(
                Baseline(label=f"{label}-seed-{own}", changes={**changes, "seed": own})
                if own
                else Baseline(label=label, changes=changes)
            )
    return replace(sweep, enqueue=tuple(runs), budget=Budget(trials=len(runs)))


def best_of(table: str) -> list[int]:
    """Give the points that ended best in a recorded table of the whole design, from ``FILE:COUNT``; best first."""
    path, _, count = table.rpartition(":")
    last = [row["top1"][-1] for row in json.loads(Path(path).read_text())["curves"]]
    return sorted(range(len(last)), key=lambda number: -last[number])[: int(count)]


def table(name: str, root: Path | None, before: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Give parameters, validation curve and end of every trial of a recorded sweep that has a curve and has ended.

    The rows of an earlier table stand ``before`` them.
    """
    from icd import search
    from icd.search.session import stored_sweep
    from icd.search.study.sweep_index import find
    from icd.search.suggest.params_of import params_of
    from icd.search.suggest.search_space import SearchSpace

    ledger = find(search.root_of(root), name)
    sweep = stored_sweep(ledger)
    space, rows, seed = SearchSpace(sweep), list[dict[str, Any]](), sweep.template.get("seed", 0)
    for record in ledger.records():
        if record.state in ("complete", "pruned", "failed") and record.curve:
            config = space.read(space.tried(record))  # an enqueued trial has no parameters in the study
            rows.append(
                {
                    "parameters": params_of(sweep.template, replace(config, seed=seed), record.params) or {},
                    "top1": [record.curve[epoch] for epoch in sorted(record.curve)],
                    "end": record.attributes.get("exit_reason", record.state),
                    "seed": config.seed,
                }
            )
    return {"name": name, "metric": "val/top1", "curves": [*before, *rows]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of both steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    design = verbs.add_parser("design", help="write the sweep of a design")
    design.add_argument("space", type=Path)
    design.add_argument("points", type=int)
    design.add_argument("--seed", type=int, default=0)
    design.add_argument("--skip", type=int, default=0, help="points of the sequence that were recorded already")
    design.add_argument("--best", nargs="+", default=[], metavar="TABLE:COUNT", help="points that come first")
    design.add_argument("--alone", action="store_true", help="train no others than those")
    design.add_argument("--trial-seeds", type=int, nargs="+", default=[0])
    recorded = verbs.add_parser("table", help="write the table of a recorded sweep")
    recorded.add_argument("name")
    recorded.add_argument("--root", type=Path)
    recorded.add_argument("--after", type=Path, help="table whose curves come first")
    for verb in (design, recorded):
        verb.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    if given.verb == "design":
        first = [number for item in given.best for number in best_of(item)]
        numbers = list(dict.fromkeys([*first, *([] if given.alone else range(given.skip, given.points))]))
        sweep = read_sweep(read_yaml(given.space))
        data = designed(sweep, given.points, given.seed, numbers, given.trial_seeds).to_data()
        given.output.write_text(yaml.safe_dump(data, sort_keys=False))
    else:
        before = json.loads(given.after.read_text())["curves"] if given.after else ()
        given.output.write_text(json.dumps(table(given.name, given.root, before)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
