"""Reads ``generalist``: the pairs of networks that every trial of a sweep is trained on."""

from collections.abc import Mapping
from typing import Any

from icd.config.read import Path, Reader
from icd.config.read_enqueue import NAME, NAME_RULE
from icd.config.sampling import NETWORK_PARTS
from icd.config.sweep import RANK_NAMES, Baseline, Generalist, Objective, Pair, PrunerConfig, Source

_PATH: Path = ("generalist",)
_NETWORKS = ("teacher", "student")


def read_generalist(reader: Reader, data: Any) -> Generalist | None:
    """Read pairs and rank; None where there is none, or something is wrong.

    A pair without a name is called after its networks.
    """
    mapping = reader.mapping(data, _PATH)
    if mapping is None:
        return None
    before = len(reader.problems)
    reader.unknown_keys(mapping, ["pairs", "rank"], _PATH)
    rank = reader.choice(mapping.get("rank", "mean"), RANK_NAMES, (*_PATH, "rank"), "rank")
    pairs = mapping.get("pairs")
    if not isinstance(pairs, list) or len(pairs) < 2:
        reader.problem((*_PATH, "pairs"), "must be a list of at least two pairs of teacher and student", value=pairs)
        return None
    found = [_pair(reader, item, (*_PATH, "pairs", index)) for index, item in enumerate(pairs)]
    _check_names(reader, found)
    if rank is None or len(reader.problems) > before:
        return None
    return Generalist(pairs=tuple(pair for pair in found if pair), rank=rank)


def check_generalist(
    reader: Reader,
    data: Mapping[str, Any],
    objectives: list[Objective],
    pruner: PrunerConfig | None,
    enqueued: list[tuple[int, Baseline]],
    sources: list[Source],
) -> None:
    """Note what does not go together with several pairs."""
    sets = "generalist.pairs sets the networks of every trial; drop this"
    for part in _NETWORKS:
        if data.get(part) is not None:
            reader.problem((part,), sets, value=data[part])
    space = data.get("space")
    for part in NETWORK_PARTS:
        if isinstance(space, dict) and part in space:
            reader.problem(("space", part), sets)
    for index, baseline in enqueued:
        for part in _NETWORKS:
            if part in baseline.changes:
                reader.problem(("enqueue", index, part), sets, value=baseline.changes[part])
    if sources:
        reader.problem(("enqueue",), "a sweep over several pairs cannot start from another sweep; drop 'from'")
    if len(objectives) > 1:
        rule = "a sweep over several pairs ranks by one objective"
        reader.problem(("objective",), rule, value=[item.metric for item in objectives])
    if pruner and pruner.prunes:
        field, instead = ("name", "none") if pruner.compares else ("dead_terms", "false")
        rule = f"a trial of several pairs cannot be pruned: its epochs are those of different networks; take {instead}"
        reader.problem(("pruner", field), rule, value=getattr(pruner, field))


def _pair(reader: Reader, data: Any, path: Path) -> Pair | None:
    mapping = reader.mapping(data, path)
    if mapping is None:
        return None
    before = len(reader.problems)
    reader.unknown_keys(mapping, ["name", *_NETWORKS], path)
    for part in _NETWORKS:
        if mapping.get(part) is None:
            reader.problem((*path, part), "required key is missing")
    name = mapping.get("name", "-".join(_arch(mapping.get(part)) for part in _NETWORKS))
    if not isinstance(name, str) or not NAME.fullmatch(name):
        reader.problem((*path, "name"), NAME_RULE, value=name)
    if len(reader.problems) > before:
        return None
    return Pair(name=name, teacher=mapping["teacher"], student=mapping["student"])


def _arch(network: Any) -> str:
    return str(network.get("arch", "")) if isinstance(network, dict) else str(network)


def _check_names(reader: Reader, pairs: list[Pair | None]) -> None:
    """Names are names of folders, some of which do not tell capitals from small letters."""
    seen: list[str] = []
    for index, pair in enumerate(pairs):
        if pair is None:
            continue
        if pair.name.lower() in seen:
            rule = "every pair needs a name of its own"
            reader.problem((*_PATH, "pairs", index), rule, value=pair.name, hint="give it one with 'name'")
        seen.append(pair.name.lower())
