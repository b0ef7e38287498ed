"""Reads a trial's file: short forms are written out, pydantic checks every field, and rules between the parts follow.

Every mistake is found in one reading. What is wrong is left out and the reading goes on without it; a rule that would
need it says nothing.
"""

from dataclasses import replace
from typing import Any

from icd.config.checks import TrialParts, check_data, check_maps, check_teacher
from icd.config.document import TOP, WEIGHTS, Document, KeyPath, full_form, is_range
from icd.config.habits import meant, one_value, write
from icd.config.plugins import read_plugins
from icd.config.reader import MAPPING, MISSING_KEY, WRONG, keys_of, option_types
from icd.config.training import PRESETS, TrainingConfig, preset_fields
from icd.config.trial import (
    DataConfig,
    Fingerprint,
    NetworkConfig,
    TeacherConfig,
    TrialConfig,
    owners,
    plain_data,
    used_plugins,
)
from icd.data import DATASETS
from icd.fields import annotations
from icd.methods import METHODS, PAPER_ROWS
from icd.models import MODELS, Stem
from icd.plugins import Plugin
from icd.registry import Registry


def read_trial(document: Document) -> TrialConfig:
    """Turn a document into a configuration.

    Raises:
        ConfigError: With every problem, in the order of the file.
    """
    return _TrialReader(document).whole("trial")  # type: ignore[no-any-return]


def stored_fingerprint(document: Document) -> Fingerprint | None:
    """Give the fingerprint of a file in which ``read_trial`` found nothing wrong; None where it holds none."""
    data = document.data.get("fingerprint")
    return None if data is None else Fingerprint(**{**data, "losses": tuple(data["losses"])})


class _TrialReader(TrialParts):
    def read(self, data: dict[str, Any]) -> TrialConfig | None:
        plugins = read_plugins(self.document, self.problems)
        data = self._without_ranges(data, ())
        self.unknown_keys(data, [*(part for part in TOP if part != "pair"), "fingerprint", "plugins"], ())
        for name in ("student", "method"):
            if data.get(name) is None and (name,) not in self.wrong:
                self.note((name,), MISSING_KEY)
        if data.get("fingerprint") is not None:  # no part of the configuration
            self.fields(Fingerprint, data["fingerprint"], ("fingerprint",))
        self.images = images = self._data(data.get("data", "digits100"))
        self.training = training = self._training(data.get("training"), data.get("student"), ("training",))
        self.student = student = self._network("student", data.get("student"))
        self.teacher = teacher = self._network("teacher", data.get("teacher"))
        self.method = method = self._method(data["method"]) if data.get("method") is not None else None
        seed = self.value(annotations(TrialConfig)["seed"], data.get("seed", 0), ("seed",))
        check_data(self)
        check_teacher(self)
        check_maps(self)
        if self.problems or images is None or student is None or method is None or training is None:
            return None  # what is None has a problem
        teacher = teacher if method.needs_teacher else None
        config = TrialConfig(data=images, student=student, method=method, training=training, teacher=teacher, seed=seed)
        for what, name, owner in owners([config]):
            if not isinstance(owner, Plugin):
                rule = f"{what} {name!r} was registered by {owner}, which no worker imports; list its file or module"
                self.note(("plugins",), rule)
        return replace(config, plugins=used_plugins(config, plugins))

    def _without_ranges(self, node: Any, path: KeyPath) -> Any:
        """Leave out ranges, which are a sweep's."""
        if not isinstance(node, dict):
            return node
        found = {}
        for name, value in node.items():
            where = (*path, name)
            if is_range(value):
                rule = "a trial has one value here; 'icd sweep' searches ranges and choices"
                self.note(where, rule, value=value, hint=write(self.document.place(where), one_value(value)))
                self.wrong.add(where)
            else:
                found[name] = self._without_ranges(value, where)
        return found

    # Parts

    def _data(self, data: Any) -> DataConfig | None:
        path: KeyPath = ("data",)
        value = full_form("data", data)
        if (name := self.name(DATASETS, value, path)) is None:
            return None
        values = self.fields(DataConfig, {**value, "name": name}, path, keys_of("data", name)) or {}
        options = tuple(sorted((option, values.pop(option)) for option in option_types(name) if option in values))
        made: DataConfig | None = self.made(DataConfig, {**values, "options": options}, path)
        return made

    def _network(self, part: str, data: Any) -> Any:
        if data is None:
            return None
        cls: Any = NetworkConfig if part == "student" else TeacherConfig
        kinds = {**annotations(cls), "arch": MODELS, "stem": str}  # which stem it is depends on the images
        kinds.pop("training", None)  # is read for itself
        given = {"stem": "auto", **value} if isinstance(value := full_form(part, data), dict) else value
        also = ["training"] if part == "teacher" else []
        values = self.fields(cls, given, (part,), kinds, instead=_INSTEAD, also=also)
        if values is None:
            return None
        values["stem"] = self._stem(part, values["arch"], values["stem"])
        if part == "teacher":
            self.of_teacher = self._training(given.get("training"), data, ("teacher", "training"))
            values["training"] = self.of_teacher if values.get("weights", "train") == "train" else None
        return self.made(cls, values, (part,))

    def _stem(self, part: str, arch: str, asked: str) -> Stem:
        stems = MODELS[arch].stems
        if asked not in ("auto", *stems) and self.right((part, "arch")):
            self.refuse((part, "stem"), f"stem of {arch} must be one of {', '.join(('auto', *stems))}", asked)
        by_size: Stem = "conv7x7_s2" if self.size is not None and self.size >= _LARGE_IMAGE else "conv3x3"
        return next((stem for stem in stems if stem == (by_size if asked == "auto" else asked)), stems[0])

    def _training(self, data: Any, network: Any, path: KeyPath) -> TrainingConfig | None:
        """Read a training's own fields, laid over those of its preset: the data set's unless it names one."""
        named = full_form("training", {} if data is None else data)
        if not isinstance(named, dict):
            self.refuse(path, MAPPING, named)
            return None
        row = DATASETS[self.images.name] if self.images else None
        preset = named.get("preset", row.preset if row else "cifar100")
        if self.value(_PRESETS, preset, (*path, "preset")) is WRONG:
            self.wrong.add(path)
            preset = "cifar100"
        arch = network.get("arch") if isinstance(network, dict) else network
        own = {name: item for name, item in named.items() if name != "preset"}
        full = preset_fields(preset, MODELS[str(arch)].family if _is_key(arch, MODELS) else "", own)
        if row is not None and preset == row.preset and "augmentation" not in own:
            full = {**full, "augmentation": plain_data(row.augmentation)}
        values = self.fields(TrainingConfig, full, path, instead=PRESETS["cifar100"], also=["preset"]) or {}
        return self.made(TrainingConfig, values, path)  # type: ignore[no-any-return]

    def _method(self, data: Any) -> Any:
        path: KeyPath = ("method",)
        named = full_form("method", data)
        if isinstance(named, dict) and "recipe" in named:
            if "name" in named:
                rule = "give a recipe to start from or a name, not both"
                self.note((*path, "recipe"), rule, value=named["recipe"])
                named = {name: value for name, value in named.items() if name != "recipe"}
            elif not _is_key(named["recipe"], PAPER_ROWS):
                hint = meant(named["recipe"], [*PAPER_ROWS, *METHODS])
                self.refuse((*path, "recipe"), "unknown recipe", named["recipe"], hint=hint)
                self.wrong.add(path)
        full = with_recipe(named)
        if (name := self.name(METHODS, full, path)) is None:
            return None
        fields = {key: value for key, value in full.items() if key != "name"}
        values = self.fields(METHODS[name], fields, path, also=["recipe"]) or {}
        return self.made(METHODS[name], values, path)


# A row's settings below the file's own


def with_recipe(value: Any) -> Any:
    """Lay a method's own fields over those of the row that it starts from.

    New scales do not keep the weights of the row's scales. Weights may be given by the name of their scale.
    """
    value = full_form("method", value)
    if not isinstance(value, dict):
        return value
    row = value.get("recipe")
    own = {name: item for name, item in value.items() if name != "recipe"}
    start = plain_data(PAPER_ROWS[str(row)]) if _is_key(row, PAPER_ROWS) else {"name": "distill"}
    if "scales" in own:
        start = {name: item for name, item in start.items() if name not in WEIGHTS}
    found = {**start, **own}
    scales = found.get("scales", [1, 2, 4])
    names = [f"s{scale}" for scale in scales] if isinstance(scales, list) else []
    for name in WEIGHTS:
        weights = found.get(name)
        if isinstance(weights, dict) and set(names) == set(weights):
            found[name] = [weights[scale] for scale in names]
    return found


def method_name(value: Any) -> str:
    """Name the class of a method's file value; ``distill`` where that is wrong or absent."""
    name = with_recipe(value).get("name") if isinstance(value, dict | str) else None
    return str(name) if _is_key(name, METHODS) else "distill"


def _is_key(name: Any, table: Any) -> bool:
    return isinstance(name, str) and name in table


_PRESETS = Registry("preset", PRESETS)
_LARGE_IMAGE = 128  # pixels; from here on the authors use the 224-pixel stem
_INSTEAD = {"arch": next(iter(MODELS)), "stem": "auto"}
