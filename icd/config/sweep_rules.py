"""Rules between the parts of a sweep: networks and pairs, weights, pruner, sampler and budget."""

from collections.abc import Sequence

from icd.config.document import TOP, KeyPath
from icd.config.habits import write
from icd.config.ranges import MOST_VALUES, Choice, ScaleWeights
from icd.config.read_template import TemplateReader
from icd.config.sweep import SweepConfig
from icd.config.trial import TrialConfig
from icd.config.walk import dimensions, size

_SAMPLER: KeyPath = ("search", "sampler", "name")
_PRUNER: KeyPath = ("search", "pruner")


def rules(known: TemplateReader, sweep: SweepConfig, trials: Sequence[TrialConfig], places: Sequence[KeyPath]) -> None:
    """Note what spans parts of a sweep, in which parts that are wrong have their defaults.

    ``trials`` are those at the corners of its space that are right, ``places`` those of its baselines in the file.
    """
    _networks(known, sweep, places)
    if trials:  # without any, what decides on the weights may be wrong
        _weights(known, sweep)
    _pruner(known, sweep, trials)
    _sampler(known, sweep)
    _budget(known, sweep)


def _networks(known: TemplateReader, sweep: SweepConfig, places: Sequence[KeyPath]) -> None:
    """Networks are named once: alone, by a pair that is searched, or by pairs that every trial has."""
    pairs, pair, data = sweep.pairs, sweep.template.get("pair"), known.document.data
    if isinstance(pair, Choice):
        for option, where in zip(pair.options, pair.places, strict=True):
            known.unknown_keys(option if isinstance(option, dict) else {}, ["teacher", "student"], ("pair", *where))
    elif pair is not None:
        rule = "must be {choices: [{teacher: ..., student: ...}, ...]}"
        known.note(("pair",), rule, value=data.get("pair"), hint="pairs trains every trial on all")
    by = "pairs" if pairs else "pair" if pair is not None else ""
    for part in ("pair", "teacher", "student") if by == "pairs" else ("teacher", "student") if by else ():
        if data.get(part) is not None:
            known.note((part,), f"{by} names the networks of a trial; drop this", value=data[part])
    if not pairs:
        return
    for place, baseline in zip(places, sweep.enqueue, strict=True):
        for part in ("teacher", "student"):
            if part in baseline.changes:
                known.note((*place, part), f"{by} names the networks of a trial; drop this")
    if sweep.sources:
        rule = "a sweep over several pairs cannot start from another sweep; drop 'from'"
        known.note(("search", "enqueue"), rule)
    if len(sweep.objectives) > 1:
        rule = "a sweep over several pairs ranks by one objective"
        known.note(("search", "objective"), rule, value=[item.metric for item in sweep.objectives])


def _weights(known: TemplateReader, sweep: SweepConfig) -> None:
    """Weights are asked where two of them matter; a file that asks for none is mistaken."""
    asked = {row.name.rpartition(".s")[0] for row in dimensions(sweep.template)}
    for path, place, node in known.nodes:
        if isinstance(node, ScaleWeights) and ".".join(map(str, path)) not in asked:
            rule = "no set of scales has two weights that matter; with gram: cells the one of scale 1 does not"
            known.note(place, rule)


def _pruner(known: TemplateReader, sweep: SweepConfig, trials: Sequence[TrialConfig]) -> None:
    pruner, metric = sweep.pruner, sweep.objectives[0].metric
    if not pruner.prunes:
        return
    rule = ""
    if sweep.pairs:
        rule = "a trial of several pairs cannot be pruned: its epochs are those of different networks"
    elif len(sweep.objectives) > 1:
        rule = "a sweep with several objectives cannot be pruned"
    elif metric.startswith("cost/"):
        rule = f"pruning needs an objective that every epoch reports, and {metric} is none"
    if rule:
        field, instead = ("name", "none") if pruner.compares else ("dead_terms", "false")
        known.note((*_PRUNER, field), f"{rule}; take {instead}", value=getattr(pruner, field))
    if pruner.dead_terms and any(not trial.training.measure_every for trial in trials):
        rule = "dead terms are found by measuring, and training.measure_every is 0"
        known.note((*_PRUNER, "dead_terms"), rule, value=True)
    epochs = min((trial.training.epochs for trial in trials), default=pruner.min_epochs)
    if pruner.min_epochs > epochs:
        rule = f"min_epochs <= training.epochs ({epochs}) must hold"
        known.note((*_PRUNER, "min_epochs"), rule, value=pruner.min_epochs)


def _sampler(known: TemplateReader, sweep: SweepConfig) -> None:
    name = sweep.sampler.name
    if name == "cmaes" and len(sweep.objectives) > 1:
        known.note(_SAMPLER, "cmaes takes one objective only", value="cmaes", hint="take auto, tpe or nsga2")
    if name not in ("grid", "cmaes") or not known.right(*((part,) for part in TOP)):
        return
    rows = dimensions(sweep.template)
    if name == "grid":
        endless = [row.name for row in rows if row.kind == "float" and " step " not in row.values]
        if (count := size(sweep.template)) is None:
            known.note(_SAMPLER, f"a grid needs a step or choices for {', '.join(endless)}", value="grid")
        elif count > MOST_VALUES:
            rule = f"a grid has at most {MOST_VALUES} points, and this space has {count}"
            known.note(_SAMPLER, rule, value="grid", hint="give larger steps, or take auto")
        return
    conditional = [row.name for row in rows if row.condition]
    categorical = [row.name for row in rows if row.options is not None and row.options > 1]
    for wrong, needs in ((conditional, "parameters that every trial has"), (categorical, "numbers only")):
        if wrong:
            rule = f"cmaes needs {needs}, which {', '.join(wrong)} are not"
            known.note(_SAMPLER, rule, value="cmaes", hint="take auto or tpe")
            return


def _budget(known: TemplateReader, sweep: SweepConfig) -> None:
    path: KeyPath = ("search", "budget")
    budget, starts, baselines = sweep.budget, sum(source.top for source in sweep.sources), len(sweep.enqueue)
    if not known.right(path, ("search", "sampler")):
        return
    if budget.min_gain is not None and len(sweep.objectives) > 1:
        rule = "a sweep with several objectives has no one gain; drop this"
        known.note((*path, "min_gain"), rule, value=budget.min_gain)
    endless = budget.trials is budget.hours is None and sweep.sampler.name != "grid"
    if endless and budget.gpu_hours is None:
        rule = "needs trials, hours or gpu_hours; only a grid ends by itself"
        known.note(path, rule, hint=write((*path, "trials"), 100))
    elif endless and sweep.resources.gpus_per_trial == 0:
        rule = "ends no sweep whose trials take no GPU"
        known.note((*path, "gpu_hours"), rule, value=budget.gpu_hours, hint=write((*path, "hours"), 1))
    elif budget.trials is not None and budget.trials < baselines + starts and known.right(("search", "enqueue")):
        what = f"{baselines + starts} configurations" if starts else f"{baselines} baselines"
        rule, hint = f"trials >= the {what} of enqueue must hold", write((*path, "trials"), baselines + starts)
        known.note((*path, "trials"), rule, value=budget.trials, hint=hint)
