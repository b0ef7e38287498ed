"""Reads a trial's configuration file: names to tables, presets to fields, networks to feature maps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from icd.config.fingerprint import Fingerprint
from icd.config.protocols import PRESETS, Protocol, preset_fields, usual_lr
from icd.config.read import Reader, read_whole
from icd.config.trial import DataConfig, NetworkConfig, TeacherConfig, TrialConfig
from icd.config.yaml import Document, apply_overrides, read_yaml
from icd.data import DATASETS
from icd.data.dataset import views_problem
from icd.data.views import VIEW_FAMILIES, ViewFamily
from icd.errors import ConfigError
from icd.fields import annotations
from icd.losses import BASE_LOSSES, DecoupledKD, LocalRelations, NormalizedKD
from icd.methods import METHODS, PAPER_ROWS, CellDistillation, Method
from icd.models import MODELS, Stem, feature_size
from icd.models.torchvision_nets import IMAGENET_CLASSES

Where = tuple[str | int, ...]

_TOP = ("data", "student", "teacher", "method", "protocol", "seed")
_TEACHER = ("arch", "stem", "weights", "protocol", "seed", "digest")
_NOT_PRETRAINED = "only torchvision's networks have published ImageNet weights here"
_LARGE_IMAGE = 128  # pixels; from here on the authors use the 224-pixel stem

# Settings of a row that follow from another one: a new scale set must not keep the old set's weights.
_FOLLOWS = {"scales": ("scale_weights", "base_scale_weights")}


def load_trial(path: Path, overrides: Sequence[str] = ()) -> TrialConfig:
    """Read a trial's file with ``--set`` overrides laid over it.

    Raises:
        ConfigError: With every problem of the file.
    """
    document = read_yaml(path)
    return read_trial(apply_overrides(document, overrides) if overrides else document)


def read_trial(document: Document) -> TrialConfig:
    """Turn a document into a configuration; every problem is found before any is raised."""
    return read_whole(document, _read)


def _read(reader: Reader, data: dict[str, Any]) -> TrialConfig | None:
    reader.unknown_keys(data, [*_TOP, "fingerprint"], ())
    if data.get("fingerprint") is not None:  # checked here with everything else; no part of the configuration
        reader.value(Fingerprint, data["fingerprint"], ("fingerprint",))
    for name in ("student", "method"):
        if data.get(name) is None:
            reader.problem((name,), "required key is missing")
    return _TrialReader(reader).read(data)


class _TrialReader:
    """Reads the parts in the order in which they depend on each other."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def read(self, data: dict[str, Any]) -> TrialConfig | None:
        images = self._data(data.get("data", "digits100"))
        student_data = self._network_data(data.get("student"), ("student",))
        method = self._method(data["method"]) if data.get("method") is not None else None
        protocol = self._protocol(data.get("protocol"), ("protocol",), images, student_data)
        size = protocol.views.size if protocol else None
        student = self._student(student_data, size)
        teacher = self._teacher(data.get("teacher"), images, size, method)
        seed = self._seed(data.get("seed", 0))
        if method and method.needs_teacher and data.get("teacher") is None:
            self.reader.problem(("teacher",), f"{_name_of(method)} needs a teacher, but the file names none")
        self._check_classes(images, method)
        self._check_maps(method, size, {"student": student, "teacher": teacher})
        if images is None or student is None or method is None or protocol is None or self.reader.problems:
            return None
        return TrialConfig(
            data=images,
            student=student,
            method=method,
            protocol=protocol,
            teacher=teacher if method.needs_teacher else None,
            seed=seed,
        )

    def _data(self, data: Any) -> DataConfig | None:
        path: Where = ("data",)
        mapping = self.reader.mapping({"name": data} if isinstance(data, str) else data, path)
        if mapping is None:
            return None
        name_path = ("data", "name") if isinstance(data, dict) else path
        if "name" not in mapping:
            self.reader.problem(name_path, "required key is missing")
            return None
        row = self.reader.choice(mapping["name"], DATASETS, name_path, "data set")
        if row is None:
            return None
        options = tuple(sorted((name, mapping[name]) for name in mapping if name in row.options))
        own_names = [name for name in annotations(DataConfig) if name != "options"]  # options stand beside the name
        self.reader.unknown_keys(mapping, [*own_names, *row.options], path)
        own = {name: value for name, value in mapping.items() if name in own_names}
        before = len(self.reader.problems)
        for name, value in options:
            if rule := row.option_problem(name, value):
                self.reader.problem((*path, name), rule, value=value)
        options = options if len(self.reader.problems) == before else ()  # a NaN would be refused once more
        config = self.reader.value(DataConfig, own, path)
        if config and row.needs_path and not config.path:
            self.reader.problem(("data", "path"), f"{config.name} needs a path to its file or folder")
        return replace(config, options=options) if config else None

    def _network_data(self, data: Any, path: Where) -> dict[str, Any] | None:
        if data is None:
            return None
        mapping = self.reader.mapping({"arch": data} if isinstance(data, str) else data, path)
        if mapping is None:
            return None
        arch_path = (*path, "arch") if isinstance(data, dict) else path
        if "arch" not in mapping:
            self.reader.problem(arch_path, "required key is missing")
        elif self.reader.choice(mapping["arch"], MODELS, arch_path, "network") is not None:
            return mapping
        return None

    def _stem(self, mapping: Mapping[str, Any], size: int | None, path: Where) -> Stem | None:
        row = MODELS[mapping["arch"]]
        asked = mapping.get("stem", "auto")
        if asked != "auto":
            if asked in row.stems:
                return next(stem for stem in row.stems if stem == asked)
            allowed = ", ".join(("auto", *row.stems))
            self.reader.problem((*path, "stem"), f"stem of {mapping['arch']} must be one of {allowed}", value=asked)
            return None
        wanted: Stem = "cub" if size is not None and size >= _LARGE_IMAGE else "cifar"
        return wanted if wanted in row.stems else row.stems[0]

    def _student(self, mapping: dict[str, Any] | None, size: int | None) -> NetworkConfig | None:
        if mapping is None:
            return None
        stem = self._stem(mapping, size, ("student",))
        config = self.reader.value(NetworkConfig, {**mapping, "stem": stem or "cifar"}, ("student",))
        if config and config.pretrained and MODELS[config.arch].build_pretrained is None:
            self.reader.problem(("student", "pretrained"), _NOT_PRETRAINED, value=config.arch)
        return config if stem else None

    def _teacher(
        self, data: Any, images: DataConfig | None, size: int | None, method: Method | None
    ) -> TeacherConfig | None:
        if data is None:
            return None
        path: Where = ("teacher",)
        mapping = self._network_data(data, path)
        if mapping is None:
            return None
        self.reader.unknown_keys(mapping, _TEACHER, path)
        stem = self._stem(mapping, size, path)
        protocol = self._protocol(mapping.get("protocol"), ("teacher", "protocol"), images, mapping)
        own = {name: value for name, value in mapping.items() if name in _TEACHER and name != "protocol"}
        config = self.reader.value(TeacherConfig, {**own, "stem": stem or "cifar"}, path)
        trained = bool(config and config.weights == "train")
        if trained and protocol and size is not None and protocol.views.size != size:
            rule = f"teacher and student must see images of one size ({size})"
            hint = "give protocol.views and teacher.protocol.views one size"
            self.reader.problem(("teacher", "protocol", "views"), rule, value=protocol.views.size, hint=hint)
        for name in ("precision", "channels_last") if trained and protocol else ():
            if getattr(protocol, name) == "auto":  # its digest would depend on the weather
                rule = f"{name} of a teacher must be given, not chosen by timing"
                self.reader.problem(("teacher", "protocol", name), rule, value="auto")
        if config and config.weights == "pretrained":
            self._check_pretrained(config.arch, images)
        return replace(config, protocol=protocol if trained else None) if config and stem else None

    def _check_pretrained(self, arch: str, images: DataConfig | None) -> None:
        """A published teacher exists, and has the classes of the data where those are known before they are read."""
        num_classes = images.num_classes if images else None
        if MODELS[arch].build_pretrained is None:
            self.reader.problem(("teacher", "weights"), _NOT_PRETRAINED, value=arch)
        elif num_classes not in (None, IMAGENET_CLASSES):
            rule, hint = pretrained_problem(num_classes)
            self.reader.problem(("teacher", "weights"), rule, value="pretrained", hint=hint)

    def _protocol(
        self, data: Any, path: Where, images: DataConfig | None, network: Mapping[str, Any] | None
    ) -> Protocol | None:
        if isinstance(data, str):
            data = {"preset": data}
        mapping = self.reader.mapping({} if data is None else data, path)
        if mapping is None:
            return None
        preset = mapping.get("preset", DATASETS[images.name].preset if images else next(iter(PRESETS)))
        if self.reader.choice(preset, PRESETS, (*path, "preset"), "preset") is None:
            return None
        changes = {name: value for name, value in mapping.items() if name != "preset"}
        self.reader.unknown_keys(changes, ["preset", *annotations(Protocol)], path)
        changes = {name: value for name, value in changes.items() if name in annotations(Protocol)}
        views = {"views": lambda item, where: self.reader.tagged(VIEW_FAMILIES, item, where, "view family")}
        if images is None:  # the preset may be another one; what the file says can be checked without it
            self.reader.read_fields(Protocol, changes, path, views)
            return None
        family = MODELS[network["arch"]].family if network else ""
        values = preset_fields(preset, family, changes)
        protocol = self.reader.value(Protocol, values, path, views)
        if protocol:
            self._check_views(images.name, protocol.views, (*path, "views"))
        return protocol

    def _check_views(self, data_set: str, views: ViewFamily, path: Where) -> None:
        """Compare the views with what the data set's images always are."""
        row = DATASETS[data_set]
        problem = None if row.from_files else views_problem(data_set, views, row.image_size)
        if problem:
            self.reader.problem(path, problem.rule, value=problem.value, hint=problem.hint)

    def _method(self, data: Any) -> Method | None:
        path: Where = ("method",)
        if isinstance(data, str):
            if data in METHODS:
                return METHODS[data]()
            if data not in PAPER_ROWS:
                self.reader.choice(data, {**PAPER_ROWS, **METHODS}, path, "method")
            return PAPER_ROWS.get(data)
        mapping = self.reader.mapping(data, path)
        if mapping is None:
            return None
        if "row" in mapping and "name" in mapping:
            self.reader.problem(("method", "row"), "give a row to start from or a name, not both", value=mapping["row"])
            return None
        start: Method | None = None
        if "row" in mapping:
            start = self.reader.choice(mapping["row"], PAPER_ROWS, ("method", "row"), "row")
            if start is None:
                return None
        name = _name_of(start) if start else mapping.get("name", "distill")
        cls = self.reader.choice(name, METHODS, ("method", "name"), "method")
        if cls is None:
            return None
        changes = {key: value for key, value in mapping.items() if key not in ("row", "name")}
        return self._method_fields(cls, start, changes)

    def _method_fields(self, cls: type[Method], start: Method | None, changes: dict[str, Any]) -> Method | None:
        """Build a method from a row's settings with the file's laid over them."""
        self.reader.unknown_keys(changes, ["row", "name", *annotations(cls)], ("method",))
        changes = {name: value for name, value in changes.items() if name in annotations(cls)}
        if start is None:
            return self.reader.value(cls, changes, ("method",), {"base_loss": self._base_loss})
        dropped = {name for key in changes for name in _FOLLOWS.get(key, ())}
        kept = {name: getattr(start, name) for name in annotations(cls) if name not in changes and name not in dropped}
        before = len(self.reader.problems)
        read = self.reader.read_fields(cls, changes, ("method",), {"base_loss": self._base_loss})
        if len(self.reader.problems) > before:
            return None
        return self.reader.construct(cls, {**kept, **read}, ("method",))

    def _base_loss(self, data: Any, path: Where) -> Any:
        return self.reader.tagged(BASE_LOSSES, data, path, "base loss")

    def _seed(self, data: Any) -> int:
        if isinstance(data, int) and not isinstance(data, bool) and 0 <= data < 2**63:
            return data
        self.reader.problem(("seed",), "seed must be a whole number with 0 <= seed < 2**63", value=data)
        return 0

    def _check_classes(self, images: DataConfig | None, method: Method | None) -> None:
        if images is None or images.num_classes is None:
            return
        for rule, value in class_problems(method, images.num_classes):
            self.reader.problem(("method", "base_loss", "ldrld", "k"), rule, value=value)

    def _check_maps(
        self, method: Method | None, size: int | None, networks: Mapping[str, NetworkConfig | TeacherConfig | None]
    ) -> None:
        """Compare image size and scales with the feature map of both networks."""
        if size is None:
            return
        for role, network in networks.items():
            if network is None or (role == "teacher" and method and not method.needs_teacher):
                continue
            try:
                _, height, width = feature_size(network.arch, network.stem, size)
            except ConfigError:
                rule = f"images must be large enough to leave {network.arch} (the {role}) a feature map"
                self.reader.problem(("protocol", "views"), rule, value=size)
                continue
            self._check_scales(method, size, f"the {role}, {height} x {width} for {network.arch}", min(height, width))

    def _check_scales(self, method: Method | None, size: int, whose: str, side: int) -> None:
        if not isinstance(method, CellDistillation) or method.scales == (1,) or method.allow_repeated_cells:
            return
        if max(method.scales) > side:
            self.reader.problem(
                ("method", "scales"),
                f"every scale must be at most the feature map of {whose} at {size} pixels",
                value=method.scales,
                hint="drop that scale, or set method.allow_repeated_cells: true as the authors did",
            )


def class_problems(method: Method | None, num_classes: int) -> list[tuple[str, object]]:
    """What a method asks of the number of classes; known for some data sets only after reading them."""
    base_loss = getattr(method, "base_loss", None)
    if isinstance(base_loss, LocalRelations) and base_loss.k > num_classes:
        return [(f"k <= number of classes ({num_classes}) must hold", base_loss.k)]
    return []


def idle_fields(method: Method | None, num_classes: int) -> list[str]:
    """Name the fields of a base loss that change nothing with so many classes; known for some data after reading."""
    loss = getattr(method, "base_loss", None)
    if isinstance(loss, DecoupledKD) and num_classes == 2:
        return ["dkd.beta"]  # one class beside the target is sure of itself
    if isinstance(loss, NormalizedKD) and num_classes == 2 and not loss.keep_target:
        return ["nkd.gamma", "nkd.temperature"]
    if isinstance(loss, LocalRelations) and loss.k == num_classes - 1:
        return ["ldrld.beta"]  # one class is left outside the top
    return []


def pretrained_problem(num_classes: object) -> tuple[str, str]:
    """Say why torchvision's classifier cannot teach so many classes, and what can be done."""
    rule = f"a pretrained teacher needs data of its {IMAGENET_CLASSES} classes, not {num_classes}: a new head is random"
    hint = (
        "train one here (weights: train); or train it as a student, pretrained: true and method: cross_entropy, and "
        "bring its student.safetensors in with 'icd teacher import'"
    )
    return rule, hint


def notes_of(configs: Iterable[TrialConfig], num_classes: int | None = None) -> list[str]:
    """Give the advice on several trials, such as the ends of a space, each line once."""
    return list(dict.fromkeys(line for config in configs for line in advice(config, num_classes)))


def advice(config: TrialConfig, num_classes: int | None = None) -> list[str]:
    """What is allowed but probably not meant; ``num_classes`` where the data were read."""
    lines = []
    method, protocol = config.method, config.protocol
    family = MODELS[config.student.arch].family
    preset = DATASETS[config.data.name].preset
    usual = usual_lr(preset, family)
    if protocol.lr > 2 * usual:
        lines.append(f"protocol.lr {protocol.lr:g}: the {preset} preset trains {config.student.arch} with {usual:g}")
    if getattr(protocol.views, "flip", False) and not DATASETS[config.data.name].horizontal_flip:
        lines.append(
            f"protocol.views.flip: a mirrored image of {config.data.name} is not of its class; set flip: false"
        )
    if isinstance(method, CellDistillation):
        if method.warmup_epochs > protocol.epochs:
            lines.append(
                f"method.warmup_epochs {method.warmup_epochs:g}: longer than the training ({protocol.epochs} epochs), "
                "so the base term never reaches its weight"
            )
        if method.cluster_weight and not method.has_cluster_term:
            lines.append("method.cluster_weight: scale 1 alone has a 1 x 1 Gram matrix, so the cluster term is zero")
    classes = num_classes or config.data.num_classes
    for field in idle_fields(method, classes) if classes else ():
        lines.append(f"method.base_loss.{field}: cannot matter with {classes} classes, so any value gives the same")
    return lines


def _name_of(method: Method) -> str:
    return next(name for name, cls in METHODS.items() if type(method) is cls)
