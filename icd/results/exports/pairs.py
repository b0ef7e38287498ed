"""A run over several pairs as it is exported: a student for each pair, and a card above them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from icd.errors import CheckpointError
from icd.results.exports.run import ExportRun, read_run
from icd.results.exports.winner import Winner
from icd.results.templating import rendered
from icd.search.core.attempts import trial_folder
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import sweep_folder


def read_pairs(ledger: Ledger, winner: Winner, root: Path) -> dict[str, ExportRun]:
    """Read the runs of a trial over several pairs and check that they are the study's.

    Raises:
        CheckpointError: If files are missing or altered.
    """
    from icd.search.core.pair_runs import key_of, pair_runs_of

    metric = next(iter(winner.values))
    runs = {}
    for pair, value in winner.attributes["members"].items():
        path = trial_folder(sweep_folder(root, ledger.name), winner.trial, pair) / "result.json"
        try:
            result = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read; the trial's folder was removed or is elsewhere") from error
        noted = {**winner.attributes, **{name: result[name] for name in ("parameters", "student_sha256")}}
        one = replace(winner, pair=pair, key=None, values={metric: value}, attributes=noted)
        runs[pair] = read_run(ledger, one, root)
    key = key_of(pair_runs_of({pair: run.config for pair, run in runs.items()}))
    if winner.key not in (None, key):
        raise CheckpointError(f"trial {winner.trial} was altered: its key is {key[:12]}, the study's is {winner.key}")
    return runs


def pairs_card(name: str, winner: Winner, runs: Mapping[str, ExportRun]) -> str:
    """Write the card above the pairs' own."""
    return rendered("pairs.md.j2", name=name, winner=winner, runs=runs, metric=next(iter(winner.values)))
