"""Reads a trial for every option and both ends of every range of a sweep, before anything is started.

A problem of such a trial is a problem of the sweep's file, so it is reported at the line and path that caused it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from icd.config.coverage import corners
from icd.config.read import Path, Reader
from icd.config.read_trial import read_trial
from icd.config.sampling import NETWORK_PARTS, Stored, baseline_document, fields_below, trial_document
from icd.config.sweep import Baseline, Branches, Choice, Generalist
from icd.config.trial import TrialConfig
from icd.config.yaml import Document, dotted
from icd.errors import ConfigError, Problem

T = TypeVar("T")
Origins = dict[Path, Path]  # path in a trial's document -> path in the sweep's file


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What is known of a sweep when its parts have been read.

    Attributes:
        fixed: The fixed part of every trial.
        space: The nodes that could be read.
        origins: Where fields that stand under ``space`` belong in a trial.
        failed: Paths of a trial whose problems were reported already.
    """

    fixed: Mapping[str, Any]
    space: Mapping[str, Any]
    origins: Origins
    failed: frozenset[str]

    def trials(self, reader: Reader) -> list[TrialConfig]:
        """Read the trials at the corners of the space and note their problems; give those that are right."""
        found = []
        for params in corners(self.fixed, self.space):
            data = trial_document(self.fixed, self.space, Stored(params))
            origins = {**self.origins, **_sampled(reader.document, self.space, params)}
            found.append(self._read(reader, data, origins))
        return [config for config in found if config]

    def baselines(self, reader: Reader, baselines: Iterable[tuple[int, Baseline]]) -> None:
        """Read the trials of the baselines, each with its place in ``enqueue``, and note their problems."""
        for index, baseline in baselines:
            place: Path = ("enqueue", index)
            origins: Origins = {}
            for part in baseline.changes:
                inner = (*place, part)
                origins[(part,)] = inner if _stands(reader.document, inner) else place
            if "method" not in self.fixed and "method" not in baseline.changes:
                origins[("method",)] = place
            fixed_fields = {old: new for old, new in self.origins.items() if old[0] not in baseline.changes}
            data = baseline_document(self.fixed, self.space, baseline.changes)
            self._read(reader, data, {**fixed_fields, **origins})

    def _read(self, reader: Reader, data: dict[str, Any], origins: Origins) -> TrialConfig | None:
        try:
            return read_trial(Document(data, reader.document.source))
        except ConfigError:
            pass
        try:  # again, slower, with the lines of the sweep's file
            read_trial(_placed(data, reader.document, origins))
        except ConfigError as error:
            for problem in error.problems:
                if not any(_below(problem.path, path) for path in self.failed):
                    _note(reader, _renamed(problem, origins))
        return None


def for_pairs(probe: Probe, generalist: Generalist | None) -> list[Probe]:
    """Give what is to be read for each pair of a generalist sweep; without one the same."""
    if generalist is None:
        return [probe]
    found = []
    for index, pair in enumerate(generalist.pairs):
        place: Path = ("generalist", "pairs", index)
        own: Origins = {(part,): (*place, part) for part in pair.networks}
        fixed = {**probe.fixed, **pair.networks}
        found.append(replace(probe, fixed=fixed, origins={**probe.origins, **own}))
    return found


def _note(reader: Reader, problem: Problem) -> None:
    """Take a problem once, though many trials have it."""
    same = ("rule", "source", "line", "path")
    if not any(all(getattr(old, name) == getattr(problem, name) for name in same) for old in reader.problems):
        reader.problems.append(problem)


def _sampled(document: Document, space: Mapping[str, Any], params: Mapping[str, Any]) -> Origins:
    """Where the options that were chosen stand."""
    origins: Origins = {}
    for part in (*NETWORK_PARTS, "seed"):
        if part in space:
            place = _option(document, ("space", part), space[part].labels.index(params[part]))
            parts = ("teacher", "student") if part == "pair" else (part,)
            origins |= {(name,): (*place, name) if part == "pair" else place for name in parts}
    if "method" in space:
        branches: Branches = space["method"]
        label = params["method"]
        place = _option(document, ("space", "method"), list(branches.fields).index(label))
        origins[("method",)] = next(
            (path for path in ((*place, label), place) if _stands(document, path)), ("space", "method", label)
        )
    for part, above in (("method", ("space",)), ("protocol", ("space", "protocol"))):
        for name, node in fields_below(space, part).items():
            own: Path = (*above, name)
            param = name if part == "method" else f"protocol.{name}"
            index = node.labels.index(params[param]) if isinstance(node, Choice) and param in params else None
            origins[(part, name)] = own if index is None else _option(document, own, index)
    return origins


def _option(document: Document, path: Path, index: int) -> Path:
    candidates: list[Path] = [(*path, "choices", index), (*path, index)]
    return next((place for place in candidates if _stands(document, place)), path)


def _stands(document: Document, path: Path) -> bool:
    return path in document.lines or path in document.overrides


def _placed(data: dict[str, Any], document: Document, origins: Origins) -> Document:
    """Give a trial's data the lines, and the ``--set``, of the places in the sweep's file that they came from."""
    lines, overrides = dict(document.lines), dict(document.overrides)
    for old, new in sorted(origins.items(), key=lambda item: len(item[0])):
        lines, overrides = _moved(lines, document.lines, old, new), _moved(overrides, document.overrides, old, new)
        source, line = document.origin(new)
        if line is None:
            overrides[old] = source
        else:
            lines[old] = line
    return Document(data, document.source, lines, overrides)


def _moved(target: Mapping[Path, T], source: Mapping[Path, T], old: Path, new: Path) -> dict[Path, T]:
    kept = {path: value for path, value in target.items() if path[: len(old)] != old}
    return kept | {(*old, *path[len(new) :]): value for path, value in source.items() if path[: len(new)] == new}


def _renamed(problem: Problem, origins: Origins) -> Problem:
    for old, new in sorted(origins.items(), key=lambda item: -len(item[0])):
        if _below(problem.path, dotted(old)):
            return replace(problem, path=dotted(new) + problem.path[len(dotted(old)) :])
    return problem


def _below(path: str, parent: str) -> bool:
    return path == parent or path.startswith((f"{parent}.", f"{parent}["))
