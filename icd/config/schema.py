"""What a trial's file may hold, for pydantic: models that are made from the dataclasses and tables of the layers below.

They describe a file whose short forms are written out (icd/config/expand.py). Discriminated unions tell data sets and
methods apart by ``name``; a base loss or an augmentation is the one key of its mapping.
"""

from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal, Union, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, TypeAdapter, create_model
from pydantic_core import PydanticCustomError

from icd.config.fingerprint import Fingerprint
from icd.config.training import TrainingConfig
from icd.config.trial import DataConfig, NetworkConfig, TeacherConfig, TrialConfig
from icd.data import DATASETS
from icd.data.views import VIEW_FAMILIES
from icd.fields import annotations
from icd.losses import BASE_LOSSES
from icd.methods import METHODS
from icd.models import MODELS

STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
for _cls in (*BASE_LOSSES.values(), *VIEW_FAMILIES.values(), Fingerprint):
    setattr(_cls, "__pydantic_config__", STRICT)  # noqa: B010

# Fields whose value is one of several dataclasses: the table of their names, and what one of them is called.
TABLES: Mapping[str, tuple[Mapping[str, type], str]] = {
    "base_loss": (BASE_LOSSES, "base loss"),
    "augmentation": (VIEW_FAMILIES, "augmentation"),
}


def option_types(name: str) -> dict[str, Any]:
    """Give the types of a data set's own options, bounds included."""
    row = DATASETS[name]
    hints = get_type_hints(row.load, include_extras=True)
    return {option: hints[option] for option in row.options}


def _one_of(table: Mapping[str, type], what: str) -> Any:
    """Take ``{kd: {temperature: 4}}`` and give the loss, or whatever the table has."""

    def one(value: Any) -> Any:
        if isinstance(value, dict) and len(value) != 1:
            raise PydanticCustomError("one_name", f"must name one {what}, as in {{{next(iter(table))}: {{}}}}")
        return value

    def inner(value: Any) -> Any:
        return next(item for name in table if (item := getattr(value, name)) is not None)

    names: Any = {name: (Annotated[cls, BeforeValidator(_filled)] | None, None) for name, cls in table.items()}
    return Annotated[create_model("OneOf", __config__=STRICT, **names), BeforeValidator(one), AfterValidator(inner)]


def _filled(value: Any) -> Any:
    return {} if value is None else value


def _model(cls: Any, *without: str, **more: Any) -> Any:
    """Take the fields of a dataclass, some with a type of their own."""
    own: dict[str, Any] = {}
    for field in fields(cls):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        default = ... if default is MISSING else default
        annotation = annotations(cls)[field.name]
        own[field.name] = (_one_of(*TABLES[field.name]) if field.name in TABLES else annotation, default)
    chosen = {name: value for name, value in {**own, **more}.items() if name not in without}
    return create_model(cls.__name__, __config__=STRICT, **chosen)


def _tagged(models: list[Any]) -> Any:
    return Annotated[Union[tuple(models)], Discriminator("name")]  # noqa: UP007


_Arch = Literal[tuple(MODELS)]  # type: ignore[valid-type]
_Protocol = _model(TrainingConfig)
_MODELS: Mapping[str, Any] = {
    "data": _tagged(
        [
            _model(
                DataConfig,
                "options",
                name=(Literal[name], ...),
                **{option: (kind, row.options[option]) for option, kind in option_types(name).items()},
            )
            for name, row in DATASETS.items()
        ]
    ),
    "student": _model(NetworkConfig, arch=(_Arch, ...), stem=(str, "auto")),
    "teacher": _model(TeacherConfig, "training", arch=(_Arch, ...), stem=(str, "auto")),
    "training": _Protocol,
    "method": _tagged([_model(cls, name=(Literal[name], ...)) for name, cls in METHODS.items()]),
    "seed": annotations(TrialConfig)["seed"],
    "fingerprint": Fingerprint,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a trial's file.

    Attributes:
        adapter: Checks it.
        classes: By the value of ``name``, the dataclass that its fields belong to; one without names has one, "".
        names: Fields that name a row of a table: what such a row is called, and the table.
        options: By the value of ``name``, keys that are no fields of the dataclass, with their types.
    """

    adapter: TypeAdapter[Any]
    classes: Mapping[str, Any]
    names: Mapping[str, tuple[str, Collection[str]]]
    options: Mapping[str, Mapping[str, Any]]

    def keys(self, name: object) -> dict[str, Any]:
        """Give the keys that the part may have, with their types; those of all names together where it is unknown."""
        names = [name] if isinstance(name, str) and name in self.classes else list(self.classes)
        found: dict[str, Any] = {}
        for item in names:
            found |= annotations(self.classes[item]) if self.classes[item] else {}
            found |= self.options.get(item, {})
        return {key: kind for key, kind in found.items() if key != "options"}


def _part(key: str, classes: Mapping[str, Any], names: Any = None, options: Any = None) -> Part:
    own = ConfigDict(strict=True) if key == "seed" else None  # a model has its own
    adapter: Any = TypeAdapter(_MODELS[key], config=own)
    return Part(adapter=adapter, classes=classes, names=names or {}, options=options or {})


def part_of(cls: Any, **names: tuple[str, Mapping[str, Any]]) -> Part:
    """Make a part of a dataclass; ``names`` are fields that name a row of a table."""
    literal: dict[str, Any] = {name: Literal[tuple(table)] for name, (_, table) in names.items()}
    made = _model(cls, **{name: (kind, _default(cls, name)) for name, kind in literal.items()})
    return Part(adapter=TypeAdapter(made), classes={"": cls}, names=names, options={})


def _default(cls: Any, name: str) -> Any:
    return next(field.default for field in fields(cls) if field.name == name)


_NETWORK = {"arch": ("network", MODELS)}
PARTS: Mapping[str, Part] = {
    "data": _part(
        "data",
        dict.fromkeys(DATASETS, DataConfig),
        {"name": ("data set", DATASETS)},
        {name: option_types(name) for name in DATASETS},
    ),
    "student": _part("student", {"": NetworkConfig}, _NETWORK),
    "teacher": _part("teacher", {"": TeacherConfig}, _NETWORK),
    "training": _part("training", {"": TrainingConfig}),
    "method": _part("method", METHODS, {"name": ("method", METHODS)}),
    "seed": _part("seed", {"": None}),
    "fingerprint": _part("fingerprint", {"": Fingerprint}),
}


def field_type(path: tuple[str | int, ...]) -> Any:
    """Give the type of the field at a path of a trial, bounds included; None where there is no such field."""
    names = [str(name) for name in path if isinstance(name, str)]
    if names[:2] == ["teacher", "training"]:
        names = names[1:]
    if names == ["seed"]:
        return annotations(TrialConfig)["seed"]
    if len(names) < 2 or names[0] not in PARTS:
        return None
    if names[1] in TABLES and len(names) > 3:
        cls = TABLES[names[1]][0].get(names[2])
        return annotations(cls).get(names[3]) if cls else None
    return PARTS[names[0]].keys(None).get(names[1])
