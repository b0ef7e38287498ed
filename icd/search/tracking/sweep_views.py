"""What MLflow should hold of a sweep, worked out from its study and its trials' folders: nothing else is needed."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

from icd.config.names import shown_params
from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import parse_yaml
from icd.errors import ConfigError
from icd.search.core.attempts import trial_folder
from icd.search.core.dead_terms import noted_terms
from icd.search.core.pair_runs import epochs_before
from icd.search.core.records import Stage, TrialRecord, best, interrupted
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_files import MADE
from icd.search.suggest.search_source import REFUSED
from icd.search.suggest.search_space import SearchSpace
from icd.search.tracking.run_view import SUMMARY, Row, RunView, trial_key
from icd.search.tracking.tracker import Tracker
from icd.worker.trial_metrics import stored_rows

STAGE_TAG = "icd.stage"  # what a run of MLflow is: ``trial``, ``sweep``, ``arm`` or ``export``
ARMS = "arms/"  # begins the names of the study's attributes that hold what confirmations and ablations found
_FILES = ("config.yaml", "metrics.jsonl", "result.json", "grams.npz")
_MEASURED: Mapping[Stage, str] = {"confirm": "test/top1", "race": "val/top1", "ablate": "val/top1"}


class SweepViews:
    """Gives the view of each run of a sweep, of whatever stage; ``attributes`` are the study's own."""

    def __init__(self, space: SearchSpace, attributes: Mapping[str, Any], folder: Path) -> None:
        self.sweep, self.space, self.attributes, self.folder = space.sweep, space, attributes, folder
        self._pairs = [pair.name for pair in self.sweep.pairs] or [""]

    # Trials

    def begun(self, record: TrialRecord, configs: Sequence[TrialConfig]) -> RunView:
        """Show a trial as it begins, or goes on, with the epochs that its folder has."""
        row = self.space.row(*configs) if configs else {n: str(v) for n, v in shown_params(record.params).items()}
        teachers = [config.teacher for config in configs]
        tags = {
            STAGE_TAG: "trial",
            "stage": record.stage,
            "state": record.state,
            "group": str(record.attributes.get("arm", record.stage)),
            "baseline": record.baseline or "",
            "start": record.start or "",
            "data_digest": str(self.attributes.get("data_digest", ""))[:16],
            "teacher_digest": "+".join((teacher.digest or "")[:16] if teacher else "" for teacher in teachers),
            "key": record.key[:16],
            **{name: row[name] for name in ("teacher", "student", "method", "seed") if name in row},
            **self.attributes.get("versions", {}),
        }
        described = " ".join(row.get(f"method.{name}", "") for name in ("scales", "base_loss"))
        stage = "" if record.stage == "search" else f"{record.stage} "
        return RunView(
            key=trial_key(record.number),
            name=f"{record.number:04d} {stage}{record.baseline or record.start or described}".strip(),
            start_ms=_ms(record.started),
            params=row,
            tags=tags,
            rows=self._rows(record.number),
            sorted_by=f"final/{self.sweep.objectives[0].metric}",
            ascending=self.sweep.objectives[0].direction == "minimize",
        )

    def trial(self, record: TrialRecord) -> RunView:
        """Show a trial, whatever its state."""
        view = self.begun(record, self._configs(record.number))
        if record.unfinished:
            return view
        pruned = record.attributes.get("exit_reason") == "pruned"  # its worker may have been an epoch further
        last = max(record.curve, default=0) if pruned else math.inf
        rows = [row for row in view.rows if row.step <= last]
        end_ms = _ms(record.ended)
        return replace(
            view,
            tags={**view.tags, **_end_tags(record)},
            rows=rows,
            totals=Row(0, rows[-1].time_ms if rows else end_ms, self._totals(record)),
            artifacts=[str(path.relative_to(self.folder)) for path in self._files(record.number)],
            mark=mark_of(record),
            failed=_state(record) == "failed",
            end_ms=end_ms,
        )

    def _configs(self, number: int) -> list[TrialConfig]:
        """Read what a trial's workers were asked to train; nothing where none of them came so far."""
        paths = [trial_folder(self.folder, number, pair) / "config.yaml" for pair in self._pairs]
        try:
            return [read_trial(parse_yaml(path.read_text(), str(path))) for path in paths]
        except (OSError, ConfigError):
            return []

    def _rows(self, number: int) -> list[Row]:
        return [
            epoch_row(before + row["epoch"], row, pair)
            for pair, before in epochs_before(self.folder, number, self._pairs)
            for row in stored_rows(trial_folder(self.folder, number, pair))
        ]

    def _totals(self, record: TrialRecord) -> dict[str, float]:
        metrics = [_MEASURED[record.stage]] if record.stage in _MEASURED else [o.metric for o in self.sweep.objectives]
        values = zip(metrics, record.values, strict=False)  # a trial without a value has none
        found = {f"final/{metric}": value for metric, value in values}
        if record.members:  # the leaderboard shows what a trial of one run has from its epochs
            found |= {f"final/{pair}/{metrics[0]}": value for pair, value in record.members.items()}
            found[metrics[0]] = record.values[0]
        return found

    def _files(self, number: int) -> Iterator[Path]:
        for pair in self._pairs:
            paths = (trial_folder(self.folder, number, pair) / name for name in _FILES)
            yield from (path for path in paths if path.exists())

    # The whole sweep

    def summary(self, records: Sequence[TrialRecord], *, driven: bool) -> RunView:
        """Show the sweep as it stands; while it is driven it has no end."""
        sweep, attributes = self.sweep, self.attributes
        data = attributes.get("data", "")
        view = RunView(
            key=SUMMARY,
            name=f"sweep {sweep.name}",
            start_ms=_ms(attributes.get("created")),
            params={"sampler": sweep.sampler.name, "pruner": sweep.pruner.name, "seed": f"seed{sweep.sampler.seed}"},
            tags={
                STAGE_TAG: "sweep",
                "state": "sweep",
                "data": data,
                "teachers": "; ".join(attributes.get("teacher_lines", ())),
                "digest": str(attributes.get("digest", ""))[:16],
            },
            note=f"Sweep {sweep.name}: {data}. Made by icd {attributes.get('versions', {}).get('icd', '')}".strip(),
        )
        if driven:
            return view
        end_ms = max([view.start_ms, *(_ms(record.ended) for record in records)])
        top = best([r for r in records if r.stage == "search"], maximize=sweep.objectives[0].direction == "maximize")
        tags = {**view.tags, "stopped_by": str(attributes.get("stopped_by", ""))}
        tags |= {"best": f"{top.number:04d}"} if top is not None else {}
        if found := self._confirmed():
            tags |= {"confirmed": str(found["statement"]), "winner": str(found["winner"])}
        totals = Row(len(records), end_ms, self._counts(records, top))  # --retry-failed adds records, and ends none
        files = [name for name in MADE if (self.folder / name).exists()]
        mark = _digest(tags, totals.metrics, [(self.folder / name).read_bytes() for name in files])
        return replace(view, tags=tags, totals=totals, artifacts=files, mark=mark, end_ms=end_ms)

    def _counts(self, records: Sequence[TrialRecord], top: TrialRecord | None) -> dict[str, float]:
        searched = [record.state for record in records if record.stage == "search"]
        counts = {f"trials/{state}": float(searched.count(state)) for state in ("complete", "pruned", "failed")}
        counts |= {"best/value": top.values[0]} if top is not None else {}
        if found := self._confirmed():
            counts["confirm/test_evaluations"] = float(found["test_evaluations"])
            means = {arm["label"]: arm["mean"] for arm in found["arms"] if arm["mean"] is not None}
            counts |= {f"confirm/{_path(label)}": mean for label, mean in means.items()}
        return counts

    # Arms

    def arms(self, records: Sequence[TrialRecord]) -> Iterator[RunView]:
        """Show each configuration that was retrained on several seeds as one run, so that MLflow compares them.

        Its metric has the mean over the seeds; ``METRIC/sd``, ``/n``, ``/low`` and ``/high`` say how sure it is.
        """
        ended = {record.number: record for record in records if record.ended}
        for name in (name for name in self.attributes if name.startswith(ARMS)):
            found = self.attributes[name]
            for arm in found["arms"]:
                if arm["mean"] is not None:
                    yield self._arm(name, found, arm, [ended[number] for number in arm["trials"] if number in ended])

    def _arm(self, name: str, found: Mapping[str, Any], arm: Mapping[str, Any], runs: Sequence[TrialRecord]) -> RunView:
        metric, label = found["metric"], arm["label"]
        spread = {f"{metric}/{part}": arm[part] for part in ("sd", "n", "low", "high") if arm[part] is not None}
        tags = {STAGE_TAG: "arm", "state": "arm", "stage": name.removeprefix(ARMS), "group": "arms", "arm": label}
        tags["seeds"] = ", ".join(str(record.attributes.get("seed", "")) for record in runs)
        metrics = {metric: float(arm["mean"]), **{part: float(value) for part, value in spread.items()}}
        end_ms = max((_ms(record.ended) for record in runs), default=0)
        return RunView(
            key=f"{name}/{_path(label)}",
            name=f"{label} (mean of {arm['n']})",
            start_ms=min((_ms(record.started) for record in runs), default=end_ms),
            tags=tags,
            totals=Row(int(arm["n"]), end_ms, metrics),
            mark=_digest(tags, metrics),
            end_ms=end_ms,
        )

    def _confirmed(self) -> Mapping[str, Any] | None:
        """Give what the last finished confirmation found, else the last one; None where there was none."""
        names = (name for name in self.attributes if name.startswith(f"{ARMS}confirm/"))
        rounds = [self.attributes[n] for n in sorted(names, key=lambda n: int(n.rpartition("/")[2]), reverse=True)]
        return next((found for found in rounds if found["finished"]), rounds[0] if rounds else None)


def follow(tracker: Tracker, views: SweepViews, ledger: Ledger, *, driven: bool) -> None:
    """Ask for every trial that the study has, and for the sweep as it stands; MLflow is sent what it lacks of them."""
    for stage in get_args(Stage):
        records = ledger.records(stage)
        for record in records if driven else interrupted(records):
            ask_for_trial(tracker, views, record)
    ask_for_summary(tracker, views, ledger, driven=driven)


def ask_for_trial(tracker: Tracker, views: SweepViews, record: TrialRecord) -> None:
    """Ask for a trial that was begun; not for a duplicate, nor for parameters that are no configuration."""
    begun = not record.unfinished or record.attempts > 0
    if begun and record.state != "duplicate" and not record.key.startswith(REFUSED):
        tracker.want(trial_key(record.number), partial(views.trial, record), mark_of(record))


def ask_for_summary(tracker: Tracker, views: SweepViews, ledger: Ledger, *, driven: bool) -> None:
    """Ask for the runs that stand for the whole sweep and for the arms of its confirmations and ablations."""
    records = [record for stage in get_args(Stage) for record in ledger.records(stage)]
    current = SweepViews(views.space, ledger.attributes, views.folder)
    tracker.want(SUMMARY, partial(current.summary, records, driven=driven))
    for view in current.arms(records):
        tracker.want(view.key, lambda view=view: view, view.mark)  # type: ignore[misc]


def epoch_row(step: int, metrics: Mapping[str, float], pair: str = "") -> Row:
    """Show the finite metrics of an epoch at the time at which it ended; those of one of several pairs by its name."""
    finite = {name: value for name, value in metrics.items() if name not in ("time", "epoch") and math.isfinite(value)}
    shown = {f"{pair}/{name}" if pair else name: float(value) for name, value in finite.items()}
    return Row(step, int(1000 * metrics["time"]), shown)


def mark_of(record: TrialRecord) -> str:
    """Give the mark of a trial's end, which never changes again; empty while it runs."""
    return "" if record.unfinished else _state(record)


def _state(record: TrialRecord) -> str:
    return record.state if record.state in ("complete", "pruned") else "failed"


def _end_tags(record: TrialRecord) -> dict[str, str]:
    known = record.attributes
    tags = {
        "state": _state(record),
        "exit_reason": str(known.get("exit_reason", record.state)),
        "reason": record.reason,
    }
    tags |= {"engine": str(known["engine"])} if "engine" in known else {}
    dead = "; ".join(term.sentence for term in noted_terms(record))
    return {**tags, "dead_terms": dead} if dead else tags


def _digest(*parts: Any) -> str:
    plain = json.dumps(parts, sort_keys=True, default=lambda content: hashlib.sha256(content).hexdigest())
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def _path(label: str) -> str:
    """Write a label so that it can be part of a name in MLflow."""
    return re.sub(r"[^\w.-]+", "_", label)


def _ms(moment: str | None) -> int:
    """Read a time of the study, which without a zone is this machine's, as milliseconds since 1970."""
    return int(1000 * datetime.fromisoformat(moment).timestamp()) if moment else 0
