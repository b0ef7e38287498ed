"""How a plugin adds its own losses, methods, networks, data sets and augmentations; ``icd.register_...`` for short.

Each function checks what it is given and raises a ``ConfigError`` where a name is taken or something is not what it
must be, so that a mistake is found where it was made and not in a sweep's hundredth trial. Each returns what it was
given, and is a decorator where that is left out. Settings are frozen dataclasses: their fields are what a file may say,
with type, range and default, as everywhere in ``icd`` (``icd/fields.py``).
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin

from icd.errors import ConfigError, Problem
from icd.fields import annotations, field_problems, ranges_of
from icd.registry import Registry

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,47}")
_WORDS = ("low", "high", "choices", "subsets_of", "name", "recipe")  # keys that mean something beside a field
_RESERVED = (*_WORDS, "log", "step", "arch", "train", "pretrained")
_OF_DATA = ("path", "val_fraction", "split_seed", "train_on", "measure_on", "options", "digest")
_TAKEN = "has a name that files use for something else; choose another"
TAGGED = ("base_loss", "augmentation")  # fields whose value names a dataclass of a table; no others may hold one


class Added(NamedTuple):
    """One row that was registered, and the module that did it."""

    table: Registry[Any]
    name: str
    row: Any
    module: str


_COLLECTING: ContextVar[list[Added] | None] = ContextVar("collecting", default=None)
_KNOWN: list[Added] = []  # all that was registered in this process


@contextmanager
def collecting() -> Iterator[list[Added]]:
    """Take what is registered meanwhile; it is added to the tables by whoever asked for it."""
    found: list[Added] = []
    token = _COLLECTING.set(found)
    try:
        yield found
    finally:
        _COLLECTING.reset(token)


def added_by(module: str) -> list[Added]:
    """Give what a module and those in it registered when imported; of its whole package where that is none."""
    names = module, module.partition(".")[0]
    found = [[added for added in _KNOWN if f"{added.module}.".startswith(f"{name}.")] for name in names]
    return found[0] or found[1]


def register_base_loss(name: str, cls: Any = None) -> Any:
    """Add a base loss: ``base_loss: NAME`` in a file, with every method, scale and search that takes one.

    Args:
        name: What a file calls it.
        cls: A frozen dataclass whose call gives one value for each row, shape [N], as ``icd.losses.base.BaseLoss``
            says; or that sees the whole batch, [B, P, K], where its attribute ``per_batch`` is true.
    """
    if cls is None:
        return lambda given: register_base_loss(name, given)
    from icd.losses import BASE_LOSSES

    _check_settings("base loss", name, cls)
    _check_call("base loss", name, cls, "__call__", ("student_NK", "teacher_NK", "labels_N"))
    _add(BASE_LOSSES, name, _titled(cls, name))
    return cls


def register_method(name: str, cls: Any = None) -> Any:
    """Add a method: ``method: NAME`` in a file.

    Args:
        name: What a file calls it.
        cls: A frozen dataclass whose ``build(setup)`` gives the module that computes the terms of the loss, as
            ``icd.methods.base.Method`` says; that module's parameters are trained with the student's. ``needs_teacher``
            is true unless the class says otherwise.
    """
    if cls is None:
        return lambda given: register_method(name, given)
    from icd.methods import METHODS, PAPER_ROWS

    _check_settings("method", name, cls)
    _check_call("method", name, cls, "build", ("setup",))
    if name in PAPER_ROWS:
        raise _refusal("method", name, "is a row of the paper's table; choose another name")
    if not hasattr(cls, "needs_teacher"):
        cls.needs_teacher = True
    _add(METHODS, name, _titled(cls, name))
    return cls


def register_augmentation(name: str, cls: Any = None) -> Any:
    """Add an augmentation: ``augmentation: NAME`` in a training.

    Args:
        name: What a file calls it.
        cls: A frozen dataclass with what ``icd/data/views.py`` asks of a family of views: ``size``, ``source``,
            ``resizes``, ``num_views``, ``apply``, ``evaluate`` and ``render``.
    """
    if cls is None:
        return lambda given: register_augmentation(name, given)
    from icd.data.views import VIEW_FAMILIES

    _check_settings("augmentation", name, cls, needs_defaults=False)
    if "size" not in annotations(cls):
        raise _refusal("augmentation", name, "needs a field 'size', the side of every view")
    for part in ("source", "resizes", "num_views", "apply", "evaluate", "render"):
        if not hasattr(cls, part):
            raise _refusal("augmentation", name, f"needs {part!r}; icd/data/views.py says what it is")
    _add(VIEW_FAMILIES, name, _titled(cls, name))
    return cls


def register_model(
    name: str,
    build: Callable[..., Any] | None = None,
    *,
    summary: str = "",
    stems: Sequence[str] = ("own",),
    pretrained: Callable[..., Any] | None = None,
) -> Any:
    """Add a network: ``student: NAME`` or ``teacher: NAME`` in a file.

    Args:
        name: What a file calls it.
        build: Called with the number of classes, it gives an ``icd.models.Network`` with new weights drawn from torch's
            global generator. With several ``stems`` it is called with the stem as well.
        summary: A line for ``icd models``.
        stems: First layers that it knows; ``own`` where there is nothing to choose.
        pretrained: The same with published weights and a head of that many classes.
    """
    if build is None:
        return lambda given: register_model(name, given, summary=summary, stems=stems, pretrained=pretrained)
    from icd.models import MODELS
    from icd.models.row import measured_row

    _check_name("network", name)
    for given in (build, *([] if pretrained is None else [pretrained])):
        if not callable(given):
            raise _refusal("network", name, f"must be a function of the number of classes, but got {given!r}")
    known = ("conv3x3", "conv7x7_s2", "conv7x7_s2_pool", "own")
    if not stems or any(stem not in known for stem in stems):
        raise _refusal("network", name, f"stems must be some of {', '.join(known)}, but got {list(stems)!r}")
    about = summary or (inspect.getdoc(build) or name).partition("\n")[0]
    _add(MODELS, name, measured_row(name, build, tuple(stems), about, pretrained=pretrained))
    return build


def register_dataset(
    name: str,
    load: Callable[..., Any] | None = None,
    *,
    augmentation: Any = None,
    summary: str = "",
    preset: str = "cifar100",
    **more: Any,
) -> Any:
    """Add a data set: ``data: NAME`` in a file.

    Args:
        name: What a file calls it.
        load: Called with an ``icd.data.Request`` and the set's own options by name, it gives an ``icd.data.Split``,
            most easily by ``icd.data.split.make_split``.
        augmentation: A family of views, the training's default; ``CropFlip(size=32, pad=4)`` unless given.
        summary: A line for ``icd datasets``.
        preset: The training's default preset.
        more: Other fields of ``icd.data.DatasetRow``: ``num_classes``, ``image_size``, ``from_files``, ``needs_path``,
            ``horizontal_flip``.
    """
    if load is None:
        return partial(register_dataset, name, augmentation=augmentation, summary=summary, preset=preset, **more)
    from icd.data import DATASETS, DatasetRow
    from icd.data.views import CropFlip

    _check_name("data set", name)
    if not callable(load) or not list(inspect.signature(load).parameters):
        raise _refusal("data set", name, f"must be a function of a request, but got {load!r}")
    for parameter in list(inspect.signature(load).parameters.values())[1:]:
        if parameter.name in (*_WORDS, *_OF_DATA):
            raise _refusal("data set", name, f"option {parameter.name!r} {_TAKEN}")
        if parameter.default is parameter.empty or parameter.annotation is parameter.empty:
            raise _refusal("data set", name, f"option {parameter.name!r} needs a type and a default")
    about = summary or (inspect.getdoc(load) or name).partition("\n")[0]
    views = augmentation or CropFlip(size=32, pad=4)
    try:
        row = DatasetRow(load=load, summary=about, augmentation=views, preset=preset, **more)
    except TypeError as error:
        raise _refusal("data set", name, str(error)) from error
    _add(DATASETS, name, row)
    return load


# Checks


def _add(table: Registry[Any], name: str, row: Any) -> None:
    """Take a row for whoever collects, or add it for this process alone."""
    if name in table.own:
        raise _refusal(table.what, name, "is taken: icd has one of that name; choose another")
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    caller = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    added, collected = Added(table, name, row, caller), _COLLECTING.get()
    beside = [one for one in collected or () if one.table is table]
    if any(one.name == name for one in beside):
        raise _refusal(table.what, name, "is registered twice by this plugin; choose another name for one of them")
    other = next((one.name for one in beside if one.row is row), table.name_of(row) if isinstance(row, type) else None)
    if other not in (None, name):
        raise _refusal(table.what, name, f"is a second name of {other!r}; register a class of its own")
    if collected is None:
        table.add(name, row, added.module)
    else:
        collected.append(added)
    _KNOWN.append(added)


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _RESERVED:
        rule = "is no name: a letter, then letters, digits, '_' or '-', at most 48, and no word that files use"
        raise _refusal(what, name, rule)


def _check_settings(what: str, name: object, cls: Any, *, needs_defaults: bool = True) -> None:
    """Accept a frozen dataclass whose fields have types, ranges and defaults."""
    _check_name(what, name)
    if not isinstance(cls, type) or not is_dataclass(cls):
        raise _refusal(what, name, f"must be a frozen dataclass, but got {cls!r}; write @dataclass(frozen=True)")
    if not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise _refusal(what, name, f"must be frozen; write @dataclass(frozen=True) above class {cls.__name__}")
    try:
        kinds = annotations(cls)
    except NameError as error:
        raise _refusal(what, name, f"has a field whose type cannot be found: {error}") from error
    values: dict[str, object] = {}
    for field in fields(cls):
        rule = "" if field.name in TAGGED else _TAKEN if field.name in _WORDS else _type_problem(kinds[field.name])
        if rule:
            raise _refusal(what, name, f"field {field.name!r} {rule}")
        if field.default is not MISSING:
            values[field.name] = field.default
        elif field.default_factory is not MISSING:
            values[field.name] = field.default_factory()
        elif needs_defaults:
            raise _refusal(what, name, f"field {field.name!r} needs a default, as in temperature: Positive = 4.0")
    for problem in field_problems(cls, values):
        raise _refusal(what, name, f"the default of {problem.field} breaks its own range: {problem.rule}")


def _type_problem(kind: Any) -> str:
    """Say what a field's type lacks; a number needs a range, or any nonsense could be searched."""
    if get_origin(kind) is Literal or kind in (bool, str, type(None)) or ranges_of(kind):
        return ""
    if kind in (int, float):
        return "needs a range, as in temperature: Positive, or Annotated[float, Range(above=0, below=1)] (icd.fields)"
    if kind is Any or isinstance(kind, TypeVar):
        return "needs a type"
    inner = [item for item in get_args(kind) if item is not Ellipsis]
    if get_origin(kind) in (list, dict, set) or not inner:
        allowed = "a number with a range, bool, str, Literal, a tuple of these, or a base loss called base_loss"
        return f"must be {allowed}, but is {kind!r}"
    return next(filter(None, map(_type_problem, inner)), "")


def _check_call(what: str, name: str, cls: type, method: str, arguments: Sequence[str]) -> None:
    function = next((base.__dict__[method] for base in cls.__mro__[:-1] if method in base.__dict__), None)
    given = ", ".join(arguments)
    if function is None:
        raise _refusal(what, name, f"needs a method {method}(self, {given})")
    try:
        inspect.signature(function).bind(None, *arguments)
    except TypeError as error:
        raise _refusal(what, name, f"{method} must take (self, {given}): {error}") from error


def _titled(cls: Any, name: str) -> Any:
    """Give a class the title that lists show: its own, or the first line of its docstring."""
    if not hasattr(cls, "title"):
        about = (cls.__doc__ or "").strip().partition("\n")[0].rstrip(".")
        cls.title = name if not about or about.startswith(f"{cls.__name__}(") else about
    return cls


def _refusal(what: str, name: object, rule: str) -> ConfigError:
    return ConfigError(Problem(rule=f"{what} {name!r} {rule}"))
