"""Reads the ``space`` of a sweep's file: ranges and choices in the places of a trial's values."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any, get_args, get_origin

from icd.config.foreign import foreign_hint
from icd.config.labels import canonical, labels_of
from icd.config.protocols import PRESETS, Protocol
from icd.config.read import Path, Reader
from icd.config.read_range import read_interval
from icd.config.sampling import NETWORK_PARTS, as_mapping, is_node, method_mapping
from icd.config.sweep import Branches, Choice, ScaleWeights
from icd.config.yaml import dotted
from icd.data.views import VIEW_FAMILIES
from icd.fields import annotations, choices_of
from icd.losses import BASE_LOSSES
from icd.methods import METHODS, PAPER_ROWS, CellDistillation, Method

WEIGHTS = ("scale_weights", "base_scale_weights")
_RANGE_KEYS = ("low", "high", "log", "step")
_MOST_SCALES = 8  # 255 subsets
_WRONG = object()  # was reported


class SpaceReader:
    """Fills ``fixed`` and ``space``; what could not be read is named in ``failed``, by the trial's dotted path."""

    def __init__(self, reader: Reader, fixed: dict[str, Any]) -> None:
        self.reader, self.fixed = reader, fixed
        self.space: dict[str, Any] = {}
        self.failed: set[str] = set()
        self.origins: dict[Path, Path] = {}  # path in a trial's document -> path in the file
        self.cls = method_class(fixed.get("method"))

    def read(self, data: Any) -> None:
        """Read everything under ``space``."""
        mapping = self.reader.mapping(data, ("space",))
        if mapping is None:
            return
        if not mapping:
            self.reader.problem(("space",), "must name at least one thing to sample")
        direct = [name for name in mapping if name in annotations(self.cls)]
        self._unknown(mapping)
        self._clashes(mapping, direct)
        for part in NETWORK_PARTS:
            if part in mapping:
                self._keep(part, self._networks(part, mapping[part], ("space", part)))
        if "method" in mapping:
            self._keep("method", self._methods(mapping["method"], ("space", "method")))
        else:
            self._fields("method", self.cls, {name: mapping[name] for name in direct})
        self._protocol(mapping)
        if "seed" in mapping:
            self._keep("seed", self._seed(mapping["seed"], ("space", "seed")))

    def _unknown(self, mapping: Mapping[str, Any]) -> None:
        parts = [*NETWORK_PARTS, "method", "protocol", "seed"]
        for name in mapping:
            if name in annotations(self.cls) or name in parts:
                continue
            owners = [method for method, cls in METHODS.items() if name in annotations(cls)]
            if owners:
                ours = next(method for method, cls in METHODS.items() if cls is self.cls)
                rule = f"is a field of {' and '.join(owners)}, but the sweep's method is {ours}"
                self.reader.problem(("space", name), rule)
            else:
                self.reader.unknown_keys({name: None}, [*annotations(self.cls), *parts], ("space",))

    def _clashes(self, mapping: Mapping[str, Any], direct: list[str]) -> None:
        if "method" in mapping and direct:
            rule = "sample whole methods (space.method) or fields of one method, not both"
            self.reader.problem(("space", "method"), rule, hint=f"move {', '.join(direct)} below its method")
        for part in ("student", "teacher", "method"):
            if part in mapping and part in self.fixed:
                rule = f"is sampled in space.{part} and fixed here; drop one of them"
                self.reader.problem((part,), rule, value=self.fixed[part])
                self.failed.add(part)
        fixed = {"method": method_mapping(self.fixed.get("method"))}
        fixed["protocol"] = as_mapping(self.fixed.get("protocol"), "preset")
        self._given_twice(("method",), fixed["method"], ("space",), direct)
        self._given_twice(("protocol",), fixed["protocol"], ("space", "protocol"), mapping.get("protocol"))
        if "pair" in mapping:
            for part in ("student", "teacher"):
                if part in mapping or part in self.fixed:
                    where = ("space", part) if part in mapping else (part,)
                    self.reader.problem(where, f"space.pair sets the {part} too; drop one of them")
                    self.failed.add(part)

    def _given_twice(self, here: Path, fixed: Any, there: Path, sampled: Any) -> None:
        """Refuse fields that the fixed part gives too: one of the two would be dropped without a word."""
        for name in sampled if isinstance(fixed, dict) and isinstance(sampled, dict | list) else ():
            if name in fixed:
                path = (*here, name) if isinstance(self.reader.document.data[here[0]], dict) else here
                _, line = self.reader.document.origin((*there, name))
                where = f"{dotted((*there, name))}{'' if line is None else f' (line {line})'}"
                rule = f"is given in {where} too; drop one of them"
                self.reader.problem(path, rule, value=fixed[name])

    def _keep(self, path: str, node: Any) -> None:
        if node is not _WRONG:
            self.space[path] = node
        self.failed |= {path} if node is _WRONG and path != "pair" else set()
        self.failed |= {"student", "teacher"} if node is _WRONG and path == "pair" else set()

    def _fields(self, part: str, cls: type, mapping: Mapping[str, Any]) -> None:
        """Take fields of the method or protocol: nodes to the space, fixed values to the fixed part."""
        own = ("space",) if part == "method" else ("space", part)
        for name in [name for name in annotations(cls) if name in mapping]:
            path: Path = (*own, name)
            self.origins[(part, name)] = path
            node = self.node(cls, name, mapping[name], path)
            if is_node(node) or node is _WRONG:
                self._keep(f"{part}.{name}", node)
            else:
                self._fix(part, name, node)
        if part == "method" and mapping and "method" not in self.fixed:
            self.fixed["method"] = {}  # distill, with its defaults

    def _fix(self, part: str, name: str, value: Any) -> None:
        before = self.fixed.get(part)
        full = method_mapping(before) if part == "method" else as_mapping(before, "preset")
        if isinstance(full, dict):
            self.fixed[part] = {**full, name: value}
        if isinstance(before, str):
            self.origins[(part, "preset")] = (part,)

    def _protocol(self, mapping: Mapping[str, Any]) -> None:
        path: Path = ("space", "protocol")
        protocol = self.reader.mapping(mapping["protocol"], path) if "protocol" in mapping else None
        if protocol is None:
            return
        self.reader.unknown_keys(protocol, ["preset", *annotations(Protocol)], path)
        if "preset" in protocol:
            self.origins[("protocol", "preset")] = (*path, "preset")
            self._keep("protocol.preset", self._names(protocol["preset"], (*path, "preset"), PRESETS, "preset"))
        self._fields("protocol", Protocol, protocol)

    # Nodes

    def node(self, cls: type, name: str, data: Any, path: Path) -> Any:
        """Read a field: a node, or a plain value after checking it."""
        if name == "base_loss":
            return self._base_loss(data, path)
        keys = set(data) if isinstance(data, dict) else set()
        listed = isinstance(data, list) and bool(numbers_of(annotations(cls)[name]))
        if (listed or (isinstance(data, dict) and name != "views")) and self._is_foreign(data, path):
            return _WRONG
        if name == "scales" and keys & {"subsets_of", "containing"}:
            return self._subsets(data, path)
        if "choices" in keys:
            return self._choice(cls, name, data, path)
        if name in WEIGHTS and isinstance(data, dict):
            interval = read_interval(self.reader, annotations(cls)[name], data, path, positive=True)
            return ScaleWeights(low=interval.low, high=interval.high, log=interval.log) if interval else _WRONG
        if isinstance(data, dict) and (name != "views" or keys & set(_RANGE_KEYS)):
            return self._interval(cls, name, data, path)
        return data if self._right(cls, name, data, path) else _WRONG

    def _is_foreign(self, data: Any, path: Path) -> bool:
        """Whether another program's words stand here, which is noted with what to write instead."""
        hint = foreign_hint(data)
        if hint:
            self.reader.problem(path, "must be a value, a range or choices", value=data, hint=hint)
        return bool(hint)

    def _right(self, cls: type, name: str, data: Any, path: Path) -> bool:
        def views(item: Any, where: Path) -> Any:
            return self.reader.tagged(VIEW_FAMILIES, item, where, "view family")

        return self.reader.one_field(cls, name, data, path, views if name == "views" else None)

    def _interval(self, cls: type, name: str, data: Any, path: Path) -> Any:
        annotation = annotations(cls)[name]
        if not numbers_of(annotation):
            rule = f"{name} is no number, so it has no range; give {{choices: [...]}}"
            self.reader.problem(path, rule, value=data)
            return _WRONG
        return read_interval(self.reader, annotation, data, path, integer=float not in numbers_of(annotation)) or _WRONG

    def _items(self, data: Any, path: Path) -> list[tuple[Any, Path]] | None:
        """Give the options of ``{choices: [...]}`` or of a bare list, each with its place."""
        if isinstance(data, dict) and "choices" not in data:
            rule = "must be a list of options or {choices: [...]}"
            self.reader.problem(path, rule, value=data, hint=foreign_hint(data))
            return None
        if isinstance(data, dict):
            self.reader.unknown_keys(data, ["choices"], path)
            data, path = data["choices"], (*path, "choices")
        if not isinstance(data, list) or not data:
            self.reader.problem(path, "must be a list of at least one option", value=data)
            return None
        return [(item, (*path, index)) for index, item in enumerate(data)]

    def _choice(self, cls: type, name: str, data: Any, path: Path) -> Any:
        before = len(self.reader.problems)
        items = self._items(data, path) or []
        for item, where in items:
            self._right(cls, name, item, where)
        if len(self.reader.problems) > before:
            return _WRONG
        return self._labelled(name, [(sorted(item) if name == "scales" else item, where) for item, where in items])

    def _labelled(self, name: str, items: list[tuple[Any, Path]]) -> Any:
        first: dict[str, int] = {}
        for index, (item, where) in enumerate(items):
            if first.setdefault(canonical(item), index) != index:
                self.reader.problem(where, f"must differ from option {first[canonical(item)] + 1}", value=item)
        if len(first) < len(items):
            return _WRONG
        options = [item for item, _ in items]
        return Choice(options=tuple(options), labels=labels_of(name, options))

    def _subsets(self, data: dict[str, Any], path: Path) -> Any:
        before = len(self.reader.problems)
        self.reader.unknown_keys(data, ["subsets_of", "containing"], path)
        menu, needed = (data.get(key, []) for key in ("subsets_of", "containing"))
        for key in ("subsets_of", "containing"):
            if key in data:
                self._right(CellDistillation, "scales", data[key], (*path, key))
        if len(self.reader.problems) > before:
            return _WRONG
        where = (*path, "subsets_of")
        if not menu or len(set(menu)) < len(menu) or len(menu) > _MOST_SCALES:
            self.reader.problem(where, f"must name 1 to {_MOST_SCALES} different scales", value=menu)
        for index, scale in enumerate(needed):
            if scale not in menu:
                rule = f"must be one of subsets_of, {', '.join(map(str, menu))}"
                self.reader.problem((*path, "containing", index), rule, value=scale)
        if len(self.reader.problems) > before:
            return _WRONG
        sets = [list(item) for count in range(1, len(menu) + 1) for item in combinations(sorted(menu), count)]
        options = [item for item in sets if set(needed) <= set(item)]
        return Choice(options=tuple(options), labels=labels_of("scales", options))

    def _base_loss(self, data: Any, path: Path) -> Any:
        if isinstance(data, str):
            return data if self.reader.choice(data, BASE_LOSSES, path, "base loss") else _WRONG
        node = self._branches(data, path, BASE_LOSSES, "base loss")
        if node is _WRONG or len(node.fields) > 1:
            return node
        ((name, fields),) = node.fields.items()
        return node if any(is_node(item) for item in fields.values()) else {name: dict(fields)}

    def _methods(self, data: Any, path: Path) -> Any:
        classes = {name: method_class(name) for name in (*PAPER_ROWS, *METHODS)}
        return self._branches(data, path, classes, "method")

    def _branches(self, data: Any, path: Path, table: Mapping[str, type[Any]], what: str) -> Any:
        """Read names with fields of their own: a list, ``{choices: [...]}`` or a mapping."""
        if isinstance(data, dict) and self._is_foreign(data, path):
            return _WRONG
        before = len(self.reader.problems)
        branches: dict[str, dict[str, Any]] = {}
        for name, fields, where in self._named(data, path, what):
            cls: Any = self.reader.choice(name, table, where, what)
            mapping = self.reader.mapping({} if fields is None else fields, where) if cls else None
            if cls is None or mapping is None:
                continue
            if name in branches:
                self.reader.problem(where, "must differ from the other choices", value=name)
                continue
            self.reader.unknown_keys(mapping, list(annotations(cls)), where)
            inside = [field for field in annotations(cls) if field in mapping]
            branches[name] = {field: self.node(cls, field, mapping[field], (*where, field)) for field in inside}
        return Branches(fields=branches) if len(self.reader.problems) == before else _WRONG

    def _named(self, data: Any, path: Path, what: str) -> list[tuple[Any, Any, Path]]:
        if isinstance(data, dict) and "choices" not in data:
            if not data:
                self.reader.problem(path, f"must name at least one {what}", value=data)
            return [(name, fields, (*path, name)) for name, fields in data.items()]
        rows: list[tuple[Any, Any, Path]] = []
        for item, where in self._items(data, path) or []:
            if isinstance(item, dict) and len(item) == 1:
                ((name, fields),) = item.items()
                rows.append((name, fields, (*where, name)))
            else:
                rows.append((item, None, where))
        return rows

    def _networks(self, part: str, data: Any, path: Path) -> Any:
        """Read networks; each is checked later, as part of a trial."""
        items = self._items(data, path)
        before = len(self.reader.problems)
        for item, where in items or []:
            if part == "pair":
                self._pair(item, where)
            elif not isinstance(item, str | dict):
                self.reader.problem(where, "must be a network's name or a mapping", value=item)
        return self._labelled(part, items) if items and len(self.reader.problems) == before else _WRONG

    def _pair(self, item: Any, where: Path) -> None:
        mapping = self.reader.mapping(item, where)
        if mapping is None:
            return
        self.reader.unknown_keys(mapping, ["teacher", "student"], where)
        for part in ("teacher", "student"):
            if not isinstance(mapping.get(part), str | dict):
                self.reader.problem((*where, part), "a pair needs a teacher and a student", value=mapping.get(part))

    def _seed(self, data: Any, path: Path) -> Any:
        items = self._items(data, path)
        wrong = [(item, where) for item, where in items or [] if type(item) is not int]
        for item, where in wrong:
            self.reader.problem(where, "must be a whole number", value=item)
        return self._labelled("seed", items) if items and not wrong else _WRONG

    def _names(self, data: Any, path: Path, table: Mapping[str, Any], what: str) -> Any:
        items = self._items(data, path)
        wrong = [item for item, where in items or [] if self.reader.choice(item, table, where, what) is None]
        return self._labelled(what, items) if items and not wrong else _WRONG


def method_class(data: Any) -> type[Method]:
    """Give the class of a fixed method or of a name; where that is wrong, or absent, ``distill``."""
    mapping = method_mapping(data)
    row = mapping.get("row") if isinstance(mapping, dict) else None
    name = mapping.get("name") if isinstance(mapping, dict) else None
    if isinstance(row, str) and row in PAPER_ROWS:
        return type(PAPER_ROWS[row])
    return METHODS[name] if isinstance(name, str) and name in METHODS else CellDistillation


def numbers_of(annotation: Any) -> set[type]:
    """Which kinds of number a field holds; none for text, truth values and lists."""
    if annotation in (int, float):
        return {annotation}
    if get_origin(annotation) is tuple or choices_of(annotation):
        return set()
    return {kind for arg in get_args(annotation) for kind in numbers_of(arg)}
