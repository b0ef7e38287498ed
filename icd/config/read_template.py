"""Reads the ranges and choices of a sweep's file, wherever they stand in the trial's document."""

from collections.abc import Iterator
from itertools import combinations
from typing import Annotated, Any, get_args, get_origin

from icd.config.document import WEIGHTS, Document, KeyPath, dotted, full_form, is_range
from icd.config.habits import as_range, write
from icd.config.names import canonical, labels_of
from icd.config.ranges import Choice, Interval, Node, ScaleWeights, plain
from icd.config.reader import WRONG, Reader, field_type
from icd.errors import did_you_mean
from icd.fields import Range, choices_of
from icd.methods import METHODS, PAPER_ROWS

_MOST_SCALES = 8  # 255 subsets
_LARGEST = 2**63 - 1  # what an integer of the study's database holds
_KEYS = {"choices": ("choices",), "subsets_of": ("subsets_of", "containing"), "": ("low", "high", "log", "step")}


class TemplateReader(Reader):
    """Turns a trial's document with ranges into a template."""

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self.nodes: list[tuple[KeyPath, KeyPath, Node]] = []  # path in a trial and place in the file of each

    def template(self, value: Any, path: KeyPath, place: KeyPath) -> Any:
        """Read a part of the document: its path in a trial is not its place in the file below choices."""
        if is_range(value):
            found = self._range(value, path, place)
            if found is WRONG:
                self.wrong.add(place)
                return found
            other = next((where for known, where, old in self.nodes if known == path and old != found), None)
            if other is not None:  # whatever options they belong to
                rule = f"{dotted(path)} is searched at {dotted(other)} too, and a parameter has one range in a sweep"
                self.note(place, rule, value=found.to_data(), hint="give both the same")
            self.nodes.append((path, place, found))
            return found
        if (habit := as_range(value)) is not None:
            rule = "a range is {low, high}, choices are {choices: [...]}"
            self.note(place, rule, value=value, hint=write(place, habit))
            self.wrong.add(place)
            return WRONG
        value = full_form(path[-1], value)
        if isinstance(value, dict):
            inner = {name: self.template(item, (*path, name), (*place, name)) for name, item in value.items()}
            return {name: item for name, item in inner.items() if item is not WRONG}
        if isinstance(value, list) and any(map(is_range, value)):
            items = [self.template(item, (*path, i), (*place, i)) for i, item in enumerate(value)]
            return WRONG if WRONG in items else items
        return value

    def _range(self, value: dict[str, Any], path: KeyPath, place: KeyPath) -> Any:
        kind = next((kind for kind in _KEYS if kind in value), "")
        allowed = _KEYS[kind][:3] if path[-1] in WEIGHTS else _KEYS[kind]
        more = [key for key in value if key not in allowed]
        right = as_range(value) if more else None
        for key in more:
            self.note((*place, key), "unknown key", hint=write(place, right) if right else did_you_mean(key, allowed))
        if kind == "choices":
            found = self._choice(value["choices"], path, (*place, "choices"))
        elif kind == "subsets_of":
            found = self._subsets(value, path, place)
        else:
            found = self._interval({key: value[key] for key in allowed if key in value}, path, place)
        return WRONG if more else found

    # Choices

    def _choice(self, items: Any, path: KeyPath, place: KeyPath) -> Any:
        if not isinstance(items, list | dict) or not items:
            self.note(place, "must be a list of at least one option", value=items)
            return WRONG
        key, options = str(path[-1]), dict[str, tuple[Any, KeyPath]]()
        for where, option in _named(key, items) if isinstance(items, dict) else _listed(key, items):
            own = (*place, *where)
            if is_range(option) and key not in WEIGHTS:
                rule = "an option is a value: a parameter has either choices or one range"
                self.note(own, rule, value=option, hint="give values of that range as options")
                continue
            read = self.template(option, path, own)
            read = sorted(read) if key == "scales" and _numbers(read) else read
            if read is not WRONG and (text := canonical(plain(read))) in options:
                self.note(own, f"must differ from option {list(options).index(text) + 1}", value=option)
            elif read is not WRONG:
                options[text] = read, ("choices", *where)
        if len(options) < len(items):
            return WRONG
        found, places = zip(*options.values(), strict=True)
        return Choice(options=found, labels=labels_of(key, found), places=places)

    def _subsets(self, value: dict[str, Any], path: KeyPath, place: KeyPath) -> Any:
        menu, needed = value["subsets_of"], value.get("containing", [])
        if path[-1] != "scales":
            self.note(place, "subsets_of is for scales; give {choices: [...]}", value=value)
            return WRONG
        if not _numbers(menu) or not menu or len(set(menu)) < len(menu) or len(menu) > _MOST_SCALES or min(menu) < 1:
            self.note((*place, "subsets_of"), f"must name 1 to {_MOST_SCALES} different scales", value=menu)
            return WRONG
        if not isinstance(needed, list) or any(scale not in menu for scale in needed):
            self.note((*place, "containing"), f"must be a list of some of {menu}", value=needed)
            return WRONG
        sets = [list(item) for count in range(1, len(menu) + 1) for item in combinations(sorted(menu), count)]
        options = tuple(item for item in sets if set(needed) <= set(item))
        places: tuple[KeyPath, ...] = (("subsets_of",),) * len(options)
        return Choice(options=options, labels=labels_of("scales", options), places=places)

    # Intervals

    def _interval(self, value: dict[str, Any], path: KeyPath, place: KeyPath) -> Any:
        annotation, weights = field_type(path), path[-1] in WEIGHTS
        kinds = numbers_of(annotation)
        if annotation is not None and not kinds and not weights:
            rule = f"{path[-1]} is no number, so it has no range; give {{choices: [...]}}"
            self.note(place, rule, value=value)
            return WRONG
        number: Any = Annotated[int if kinds == {int} else float, Range(at_least=-_LARGEST, at_most=_LARGEST)]
        above_0 = Annotated[number, Range(above=0)]
        types = {"low": above_0 if weights else number, "high": number, "log": bool, "step": above_0 | None}
        cls = ScaleWeights if weights else Interval
        values = self.fields(cls, value, place, types) or {}
        found = self.made(cls, {**values, "integer": kinds == {int}}, place)
        return found if self.right(place) else WRONG


def _named(key: str, items: dict[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    """Write out options that stand with their names before their fields; each with its place below the choices."""
    for name, item in items.items():
        short = full_form(key, name)
        if not isinstance(short, dict):
            yield (name,), name
        elif not isinstance(item, dict | None):
            yield (name,), {name: item}
        elif name in short:  # a base loss or an augmentation: the option's one key
            yield (), {name: item or {}}
        else:
            yield (name,), {**short, **(item or {})}


def _listed(key: str, items: list[Any]) -> Iterator[tuple[KeyPath, Any]]:
    """Give options that stand in a list; a method may have its name before its fields, as in ``- KD: {...}``."""
    rows = {*PAPER_ROWS, *METHODS} if key == "method" else set[str]()
    for index, item in enumerate(items):
        own = item.items() if isinstance(item, dict) and len(item) == 1 else ()
        if any(name in rows and isinstance(fields, dict | None) for name, fields in own):
            yield from (((index, *place), option) for place, option in _named(key, item))
        else:
            yield (index,), item


def numbers_of(annotation: Any) -> set[type]:
    """Which kinds of number a field holds; none for text, truth values and lists."""
    if annotation in (int, float):
        return {annotation}
    if get_origin(annotation) is tuple or choices_of(annotation):
        return set()
    return {kind for arg in get_args(annotation) for kind in numbers_of(arg)}


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)
