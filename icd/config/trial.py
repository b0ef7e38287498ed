"""One trial's configuration: everything that decides its result, and nothing else.

Reading a file gives a ``TrialConfig`` with every default filled in; ``to_data`` writes it back in full, and reading
that gives an equal value. Equal configurations have equal keys.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Annotated, Any, Literal

from icd.config.document import WEIGHTS
from icd.config.names import whole
from icd.config.training import TrainingConfig
from icd.data import DATASETS
from icd.data.views import VIEW_FAMILIES
from icd.fields import Checked, FieldProblem, Range, Seed
from icd.losses import BASE_LOSSES
from icd.methods import METHODS, Method
from icd.models import MODELS, Stem
from icd.plugins import Plugin, changes
from icd.registry import Registry

TeacherMode = Literal["cache", "live", "none"]
ValShare = Annotated[float, Range(above=0, at_most=0.5)]

_SEARCHED = {"train_on": "train", "measure_on": "val"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig(Checked):
    """Which images, and which part of the training images is kept for validation.

    Attributes:
        name: A row of ``DATASETS``.
        path: File or folder below the data root, for data sets that have no fixed place.
        val_fraction: Share of the training images used for validation, drawn per class.
        split_seed: Seed of that draw.
        train_on: ``train``, or ``train+val`` for a confirmation, which has nothing left to choose.
        measure_on: ``val``, or ``test`` for a confirmation. A trial of a search is refused the test images.
        options: The data set's own options, by name.
        digest: Digest of the images and the split, once they have been read; replaces ``path`` in the key.
    """

    name: str
    path: str | None = None
    val_fraction: ValShare = 0.1
    split_seed: Seed = 0
    train_on: Literal["train", "train+val"] = "train"
    measure_on: Literal["val", "test"] = "val"
    options: tuple[tuple[str, Any], ...] = ()
    digest: str | None = None

    def rules(self) -> Iterator[FieldProblem]:
        if self.train_on == "train+val" and self.measure_on == "val":
            rule = "train_on must be train where measure_on is val: a trial cannot be measured on what it has seen"
            yield FieldProblem("train_on", rule, self.train_on)

    @property
    def parts(self) -> dict[str, str]:
        """What is used otherwise than a search does: written, and part of the key, only there."""
        return {name: getattr(self, name) for name, usual in _SEARCHED.items() if getattr(self, name) != usual}

    @property
    def num_classes(self) -> int | None:
        """Number of classes where the data set always has the same."""
        return DATASETS[self.name].num_classes


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """A student: architecture, stem, and whether it starts from published ImageNet weights."""

    arch: str
    stem: Stem
    pretrained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherConfig(Checked):
    """A teacher: architecture and where its weights come from.

    Attributes:
        arch: A row of ``MODELS``.
        stem: First layers, by image size.
        weights: ``train`` (trained once by ``training`` and ``seed``, then found again), ``pretrained`` (torchvision),
            or the name or digest of a teacher in the store.
        pretrained: Whether the training of ``weights: train`` starts from published ImageNet weights, with a new head.
        training: How it is trained, for ``weights: train``.
        seed: Seed of that training.
        digest: Digest of the weights, once known; replaces all of the above but ``arch`` and ``stem`` in the key.
    """

    arch: str
    stem: Stem
    weights: str = "train"
    pretrained: bool = False
    training: TrainingConfig | None = None
    seed: Seed = 0
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialConfig(Checked):
    """Everything that a trial's result follows from, but for the kind of processor and the teacher cache's mode.

    Attributes:
        data: Images.
        student: Network that is trained.
        method: Loss.
        training: How the student is trained.
        teacher: Network that teaches.
        seed: Of the training.
        plugins: Those that register something which the other fields name; with their source, so that the trial can be
            trained anywhere. Their digests are in the key.
    """

    data: DataConfig
    student: NetworkConfig
    method: Method
    training: TrainingConfig
    teacher: TeacherConfig | None = None
    seed: Seed = 0
    plugins: tuple[Plugin, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """Write the configuration as plain YAML data, every field spelt out."""
        plugins = {"plugins": [plugin.to_data() for plugin in self.plugins] or None}
        return {name: value for name, value in {**plain_data(self), **plugins}.items() if value is not None}

    def key(self) -> str:
        """Digest of the configuration; where data and teacher digests are known they stand for names and places."""
        data = self.to_data()
        if self.data.digest:
            kept = ("name", "val_fraction", "split_seed", "digest", *self.data.parts)
            data["data"] = {name: data["data"][name] for name in kept}
        if self.teacher and self.teacher.digest:
            data["teacher"] = {name: data["teacher"][name] for name in ("arch", "stem", "digest")}
        for training in (data["training"], data.get("teacher", {}).get("training")):
            (training or {}).pop("measure_every", None)  # looking at a training does not change it
        if self.plugins:
            data["plugins"] = [[plugin.name, plugin.digest] for plugin in self.plugins]
        text = json.dumps(whole(data), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint(Checked):
    """First losses of a training, by which whoever trains the same again sees whether it is the same; no part of a key.

    They may stand in a trial's file, as ``icd export`` writes it, with what they depend on beside the configuration.
    """

    key: str  # of the configuration, digests included
    device: str  # name of the GPU or CPU
    precision: str  # fp32, tf32 or bf16
    teacher: TeacherMode  # how it answered; none where there is no teacher
    versions: dict[str, str]  # of icd, Python, torch and NumPy
    losses: tuple[float, ...]  # sum of the terms in each of the first 50 steps, or of all where there are fewer


def plain_data(value: Any) -> Any:
    """Write a value, or a part of a configuration, as plain YAML data."""
    if isinstance(value, DataConfig):
        own = {name: getattr(value, name) for name in ("name", "path", "val_fraction", "split_seed", "digest")}
        return {name: item for name, item in own.items() if item is not None} | value.parts | dict(value.options)
    if is_dataclass(value) and not isinstance(value, type):
        inner = {field.name: plain_data(getattr(value, field.name)) for field in fields(value)}
        if tag := BASE_LOSSES.name_of(type(value)) or VIEW_FAMILIES.name_of(type(value)):
            return {tag: inner}
        for name in WEIGHTS:  # each is called after its scale: a weight is a parameter of its own
            if inner.get(name) is not None:
                inner[name] = {f"s{m}": weight for m, weight in zip(inner["scales"], inner[name], strict=True)}
        if method := METHODS.name_of(type(value)):
            return {"name": method, **inner}
        return {name: item for name, item in inner.items() if name != "digest" or item is not None}
    if isinstance(value, tuple):
        return [plain_data(item) for item in value]
    return value


def used_plugins(config: Any, listed: Sequence[Plugin] = ()) -> tuple[Plugin, ...]:
    """Give the plugins that register something a configuration names, those that are listed in that order."""
    order = {plugin: place for place, plugin in enumerate(listed)}
    found = dict.fromkeys(owner for _, _, owner in owners([config]) if isinstance(owner, Plugin))
    return tuple(sorted(found, key=lambda plugin: (order.get(plugin, len(order)), plugin.name)))


def owners(parts: Iterable[Any]) -> Iterator[tuple[str, str, object]]:
    """Give what each part of a trial names, and who registered it: what it is, its name, a plugin or a module."""
    for part in parts:
        if not is_dataclass(part) or isinstance(part, type):
            continue
        for table in (BASE_LOSSES, METHODS, VIEW_FAMILIES):
            name, owner = table.name_of(type(part)), table.owner_of(type(part))
            if name is not None and owner is not None:
                yield table.what, name, owner
        named: list[tuple[str, Registry[Any]]] = [("arch", MODELS), ("name", DATASETS)]
        for key, rows in named:
            value = getattr(part, key, None)
            if isinstance(value, str) and (owner := rows.owner(value)) is not None:
                yield rows.what, value, owner
        yield from owners(getattr(part, field.name) for field in fields(part))


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List what changed between two plain configurations: ``method.cluster_weight: 2.0 -> 8.0``."""
    lines = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if name == "plugins" and not prefix:
            lines += changes(before or [], after or [])
        elif isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            lines.append(f"{prefix}{name}: {before!r} -> {after!r}")
    return lines


def student_name(config: TrialConfig) -> str:
    """Write the student as a key: configurations with equal ones get one choice.

    Only what is named in a search space, never a number from a range: a trial between a range's ends needs its choice.
    """
    training = config.training
    own = {"precision": training.precision, "channels_last": training.channels_last}
    return json.dumps({**plain_data(config.student), **own, "size": training.augmentation.size}, sort_keys=True)


def settled(config: TrialConfig, choice: Sequence[Any]) -> TrialConfig:
    """Write a choice into a configuration."""
    precision, channels_last = choice
    return replace(config, training=replace(config.training, precision=precision, channels_last=channels_last))
