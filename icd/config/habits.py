"""What people write by habit of Optuna, Ray Tune, W&B, Determined, Hydra or the first icd, and what it is here.

A hint says ``write PATH: VALUE``; written so, the mistake is gone.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_origin

import yaml

from icd.config.document import Document, KeyPath, dotted
from icd.config.forms import is_range
from icd.errors import Problem, did_you_mean
from icd.fields import annotations
from icd.methods import METHODS

_LONGEST = 240  # characters of a hint; with a long name and a long value the line stays below 400

# Keys of a sweep's file that no trial has.
SWEEP_KEYS = ("name", "pairs", "pair", "search", "resources")
_OLD = ("space", "generalist", "protocol")
_TRIAL_KEYS = ("data", "student", "teacher", "method", "training", "seed")

_SEARCH = {
    "search.budget.trials": "n_trials num_trials num_samples max_trials trials run_cap max_trial_count max_evals",
    "search.budget.hours": "hours max_hours",
    "search.budget.gpu_hours": "gpu_hours max_gpu_hours",
    "search.sampler.seed": "sampler_seed",
    "search.sampler.startup_trials": "n_startup_trials n_initial_points startup_trials random_state_trials",
    "search.sampler": "sampler search_alg algorithm algo tuner searcher",
    "search.pruner.min_epochs": "grace_period min_resource min_iter min_t n_warmup_steps min_budget",
    "search.pruner.reduction": "reduction_factor eta divisor",
    "search.pruner": "pruner scheduler early_terminate early_stopping assessor",
    "search.objective.direction": "direction mode goal",
    "search.objective": "objective metric monitor",
    "search.enqueue": "enqueue baselines points_to_evaluate enqueue_trials warm_start",
    "search.budget": "budget",
    "resources.max_concurrent": "max_concurrent_trials max_concurrent n_jobs parallelism parallel_trials",
    "resources.gpus_per_trial": "gpus_per_trial num_gpus gpus slots_per_trial gpu",
    "resources.cpus_per_trial": "cpus_per_trial num_cpus cpus cpu",
    "resources.retries": "max_failures max_restarts max_retries retries",
    "name": "study_name experiment_name sweep_name experiment project title",
}
_TRIAL = {
    "training.lr": "learning_rate lr base_lr init_lr",
    "training.epochs": "epochs num_epochs n_epochs max_epochs",
    "training.batch_size": "batch_size train_batch_size batch",
    "training.weight_decay": "weight_decay wd",
    "training.momentum": "momentum",
    "training.schedule": "lr_schedule lr_scheduler schedule",
    "training.milestones": "milestones lr_steps",
    "training": "train_config preset",
    "data": "dataset datasets data_set",
    "student": "model student_model arch network",
    "teacher": "teacher_model",
    "seed": "seeds random_seed random_state",
    "method": "loss distiller kd_method recipe",
}
_PLACES = {word: place for table in (_TRIAL, _SEARCH) for place, words in table.items() for word in words.split()}

# Keys of a part that are called otherwise there.
_INSIDE = {
    ("objective", "name"): "metric",
    ("pruner", "type"): "name",
    ("sampler", "type"): "name",
    ("student", "name"): "arch",
    ("teacher", "name"): "arch",
    ("student", "model"): "arch",
    ("teacher", "model"): "arch",
}

# Spellings of values, by the last keys of the path.
_VALUES: Mapping[tuple[str, ...], Mapping[str, str]] = {
    ("sampler", "name"): {
        "tpe": "tpesampler bayes bayesian bayesopt bohb hyperopt optuna optunasearch tree_parzen",
        "random": "randomsampler random_search uniform",
        "grid": "gridsampler grid_search gridsearch bruteforce bruteforcesampler",
        "gp": "gpsampler gaussian_process",
        "cmaes": "cmaessampler cma_es cma",
        "nsga2": "nsgaiisampler nsgaii nsga",
    },
    ("pruner", "name"): {
        "successive_halving": "asha asynchronous_hyperband adaptive_asha async_halving sha successivehalvingpruner",
        "hyperband": "hyperbandpruner bohb hyperbandforbohb",
        "median": "medianpruner median_stopping medianstopping medianstop median_stopping_rule",
        "none": "noppruner nop fifo fifoscheduler off false no",
    },
    ("objective", "metric"): {
        "val/top1": "val_acc val_accuracy val/acc val/accuracy accuracy acc top1 val_top1 acc1 val_acc1",
        "val/top5": "top5 val_top5 acc5 val_acc5",
        "val/loss": "val_loss loss validation_loss valid_loss",
        "val/ece": "ece val_ece calibration",
    },
    ("objective", "direction"): {"maximize": "max maximise up higher", "minimize": "min minimise down lower"},
    ("precision",): {"bf16": "amp bfloat16 mixed bf16-mixed fp16 16-mixed", "fp32": "float32 full 32 32-true"},
    ("schedule",): {"cosine": "cosineannealing cosineannealinglr cosine_annealing", "step": "multistep multisteplr"},
}

_LISTS = ("values", "grid", "grid_search", "options", "categorical", "choice", "vals", "categories", "any_of")
_LOW = ("min", "minval", "lower", "from", "start", "low", "lb", "minimum")
_HIGH = ("max", "maxval", "upper", "to", "stop", "high", "ub", "maximum", "end")
_STEP = ("q", "step", "quantum", "step_size")
_KIND = ("type", "distribution", "_type", "dist", "sampling", "scale", "kind", "name", "log_scale")
_CALL = re.compile(r"(?:[a-z]+\.)*([A-Za-z_]+)\((.*)\)")


def meant(name: object, allowed: Sequence[str], path: KeyPath = (), value: object = None) -> str:
    """Say what an unknown name or key means here, or list what is allowed."""
    if name == "trials_per_process":
        return "let trials share a GPU with gpus_per_trial: 0.25, and start NVIDIA MPS so that they overlap"
    inside = _INSIDE.get((str(path[-1]), str(name))) if path else None
    if inside and inside in allowed:
        return write((*path, inside), value)
    place = _PLACES.get(str(name).lower()) if isinstance(name, str) else None
    if place and value is not None and (hint := _moved(place, path, allowed, value)):
        return hint
    hint = did_you_mean(name, allowed)
    return hint if len(hint) <= _LONGEST else f"{hint[:_LONGEST].rpartition(',')[0]}, ... ({len(allowed)} in all)"


def _moved(place: str, path: KeyPath, allowed: Sequence[str], value: Any) -> str:
    head, tail = place.split(".")[0], place.split(".")[-1]
    if path and tail in allowed:  # the same part has it under another name
        return write((*path, tail), value)
    inside = not path or str(path[0]) in (head, "search")
    known = head in allowed or "search" in allowed or path[:1] == ("search",)
    return write(tuple(place.split(".")), value) if inside and known else ""


def write(path: KeyPath, value: Any) -> str:
    """Tell to write a value at a path."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip().removesuffix("\n...")
    return f"write {dotted(path)}: {text}"


def about_value(path: KeyPath, value: object, annotation: Any, *, searched: bool = False) -> str:
    """Say how a value that is refused is written here; empty where nothing is known of it."""
    names = [str(name) for name in path]
    for tail, table in _VALUES.items():
        if tuple(names[-len(tail) :]) == tail or tuple(names[-len(tail[:1]) :]) == tail[:1] != tail:
            text = str(value).lower()
            right = next((new for new, words in table.items() if text in words.split() or text == new), "")
            if right:
                return write((*path, *tail[1:]) if names[-1] != tail[-1] else path, right)
    if searched and isinstance(value, list) and value and get_origin(annotation) is not tuple:
        return write(path, {"choices": value})
    found = as_range(value)
    if found is None:
        return ""
    return write(path, found if searched else one_value(found))


def as_range(value: object) -> Any:
    """Translate how other tools write a range; None for what is none of theirs."""
    if isinstance(value, str):
        return _from_text(value)
    if not isinstance(value, dict) or not value:
        return None
    if set(value) <= {"value", "type", "val"} and ("value" in value or "val" in value):
        return value.get("value", value.get("val"))
    for key in _LISTS:
        if isinstance(value.get(key), list):
            return {"choices": value[key]}
    kind = " ".join(str(value.get(key, "")) for key in _KIND if key in value).lower()
    if isinstance(inner := value.get("_value"), list):
        return {"choices": inner} if kind == "choice" else _interval(inner[0], inner[-1], kind, inner[2:3])
    low, high = (next((value[key] for key in keys if key in value), None) for keys in (_LOW, _HIGH))
    known = {*_LOW, *_HIGH, *_STEP, *_KIND, "log", "base", "count", "q"}
    if low is None or high is None or not set(value) <= known:
        return None
    if "base" in value and "log" in kind:  # Determined gives exponents
        low, high = float(value["base"]) ** low, float(value["base"]) ** high
    log = "log" if value.get("log") is True or value.get("log_scale") is True else kind
    return _interval(low, high, log, [value[key] for key in _STEP if key in value])


def _interval(low: Any, high: Any, kind: str, step: Sequence[Any]) -> Any:
    log = "log" in kind
    found = {"low": low, "high": high, **({"log": True} if log else {})}
    return found | ({"step": step[0]} if step and not log and step[0] else {})


def _from_text(text: str) -> Any:
    call = _CALL.fullmatch(text.strip())
    if call is None:
        return None
    kind, inner = call[1].lower(), call[2]
    try:
        arguments = yaml.safe_load(f"[{inner.replace('=', ': ')}]")
    except yaml.YAMLError:
        return None
    named = {name: item for part in arguments if isinstance(part, dict) for name, item in part.items()}
    plain = [_number(part) for part in arguments if not isinstance(part, dict)]
    plain = plain[1:] if kind.startswith("suggest") and plain and isinstance(plain[0], str) else plain
    if kind in ("choice", "grid_search", "categorical", "suggest_categorical"):
        return {"choices": plain[0] if len(plain) == 1 and isinstance(plain[0], list) else plain}
    if (
        "uniform" in kind
        or "rand" in kind
        or kind in ("interval", "suggest_float", "suggest_int", "range", "float", "int")
    ):
        low, high = [*plain, *(_number(named[key]) for key in ("low", "high", "lower", "upper") if key in named)][:2]
        whole = kind in ("randint", "lograndint", "range")  # their upper end is left out
        return _interval(low, high - 1 if whole else high, "log" if named.get("log") is True else kind, plain[2:3])
    return None


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value)  # PyYAML's own 1e-4 is a word
    except ValueError:
        return value


def one_value(found: Any) -> Any:
    """Give one value of a range."""
    if not is_range(found):
        return found
    if "low" in found:
        return found["low"]
    choices = found.get("choices", found.get("subsets_of"))
    first = next(iter(choices), None) if isinstance(choices, list | dict) and choices else None
    if isinstance(choices, Mapping) and first is not None:
        fields = choices[first] if isinstance(choices[first], dict) else {}
        return {first: {key: one_value(item) for key, item in fields.items()}}
    return [first] if "subsets_of" in found else first


def about_file(document: Document, kind: str) -> Problem | None:
    """Say in one sentence that a file is of an older icd, or a sweep's where a trial's is asked for, or the reverse."""
    data = document.data
    old = [key for key in _OLD if key in data]
    if old and ("method" in data or "student" in data or "teacher" in data or old == ["generalist"]):
        rule = (
            "is of an older icd: protocol is training, row is recipe, views is augmentation, ranges stand where values "
            "stand, and how to search stands under search"
        )
        return document.problem((old[0],), rule, hint="docs/how-to/sweep.md shows how such a file reads today")
    if kind == "trial" and (own := [key for key in SWEEP_KEYS if key in data]):
        return document.problem(
            (own[0],), "is a key of a sweep's file, and this must be a trial's", hint="use 'icd sweep'"
        )
    searches = any(key in data for key in SWEEP_KEYS) or _has_range(data)
    if kind == "sweep" and not searches and any(key in data for key in _TRIAL_KEYS):
        rule = "must be a sweep's file, but has no name, no search and no range, as a trial's has"
        return document.problem((), rule, hint="use 'icd train'")
    return None


def is_sweep(data: Any) -> bool:
    """Whether a file's data is meant as a sweep's: it has a key that no trial has, or a range."""
    return isinstance(data, dict) and (any(key in data for key in (*SWEEP_KEYS, *_OLD)) or _has_range(data))


def _has_range(data: Any) -> bool:
    if is_range(data):
        return True
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return any(map(_has_range, inner))


def owners(name: str) -> list[str]:
    """Name the methods that have a field."""
    return [method for method, cls in METHODS.items() if name in annotations(cls)]
