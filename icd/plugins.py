"""Plugins: files and modules with a user's own losses, methods, networks, data sets and augmentations.

A configuration lists them under ``plugins``: a file by its path, seen from the configuration's own folder, or a module
by its name. ``ICD_PLUGINS`` and the entry-point group ``icd.plugins`` of installed packages add to every list.

What a file holds travels: its text stands in the trial's document, so a worker on another machine, a job, a resume or
an exported configuration runs the same code with no other way to the file. A module must be installed wherever it is
used, and its digest must be the same there.
"""

import contextlib
import hashlib
import importlib
import importlib.abc
import importlib.util
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from icd.errors import ConfigError, Problem, StateError
from icd.register import Added, added_by, collecting
from icd.text import first_change

VARIABLE, GROUP = "ICD_PLUGINS", "icd.plugins"
MAX_BYTES, MAX_BYTES_OF_ALL = 64 * 1024, 160 * 1024  # of files; they stand in every trial's document, which has 256 KiB
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_PREFIX = "icd_plugin_"

_LOADED: dict["Plugin", list[Added]] = {}
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """One plugin, as a trial's document holds it.

    Attributes:
        name: A file's name without its folder, or a module's.
        digest: SHA-256 of the source: of the file, or of all Python files of the module's package.
        source: A file's text; empty for a module.
        path: Where a file was read; documents of trials do not have it.
    """

    name: str
    digest: str
    source: str = ""
    path: str = field(default="", compare=False)

    def to_data(self) -> dict[str, str]:
        """Write it for a document."""
        return {name: value for name, value in asdict(self).items() if value}


def resolve(item: object, folder: Path) -> Plugin:
    """Read one item of a list of plugins: a path, a module's name, or what a document holds of one.

    Raises:
        ConfigError: If it is none of these, or cannot be read.
    """
    if isinstance(item, Mapping):
        return _stored(item)
    if path := path_of(item, folder):
        return _of_file(path)
    if not isinstance(item, str) or not _MODULE.fullmatch(item):
        raise _refusal("must be a path such as ./my_losses.py, or the name of an installed module", item)
    return Plugin(name=item, digest=_module_digest(item))


def path_of(item: object, folder: Path) -> Path | None:
    """Give the path of an item that is a file; None for others."""
    is_file = isinstance(item, str) and (item.endswith(".py") or "/" in item)
    return (folder / Path(str(item)).expanduser()).resolve() if is_file else None


def ambient() -> list[Plugin]:
    """Read what ``ICD_PLUGINS`` names, seen from the working directory, and entry points.

    Raises:
        ConfigError: If one of them cannot be read; it says where it was named.
    """
    named = [(VARIABLE, word.strip()) for word in re.split(r"[:,]", os.environ.get(VARIABLE, "")) if word.strip()]
    entries = sorted((point.name, point.value.partition(":")[0]) for point in entry_points(group=GROUP))
    found = []
    for where, item in [*named, *((f"entry point {name} of {GROUP}", module) for name, module in entries)]:
        try:
            found.append(resolve(item, Path.cwd()))
        except ConfigError as error:
            raise ConfigError([replace(problem, path=where) for problem in error.problems]) from error
    return list(dict.fromkeys(found))


def activate(plugins: Sequence[Plugin]) -> None:
    """Import plugins that are new to this process, and put the rows of all into the tables.

    Raises:
        ConfigError: If one cannot be imported, or two register one name.
        StateError: If a module is not the one that the document was written with.
    """
    with _ONE_AT_A_TIME:
        found: dict[tuple[int, str], tuple[Added, Plugin]] = {}
        for plugin in plugins:
            for added in rows_of(plugin):
                key = id(added.table), added.name
                other, owner = found.get(key, (added, plugin))
                if other is not added and owner.name != plugin.name:
                    rule = f"{added.table.what} {added.name!r} is registered by {owner.name} and by {plugin.name}"
                    raise ConfigError(Problem(rule=f"{rule}; choose another name in one of them"))
                nearer = _nearness(plugin, added.module) > _nearness(owner, added.module)
                found[key] = added, plugin if nearer else owner
        for added, owner in found.values():
            added.table.add(added.name, added.row, owner)


def _nearness(plugin: Plugin, module: str) -> int:
    """Order plugins whose import registered a row: its own module, its package, any other."""
    return len(plugin.name) if f"{module}.".startswith(f"{plugin.name}.") else 0


def rows_of(plugin: Plugin) -> list[Added]:
    """Give what a plugin registers; it is imported once in a process."""
    with _ONE_AT_A_TIME:
        if plugin not in _LOADED:
            _LOADED[plugin] = _import_file(plugin) if plugin.source else _import_module(plugin)
        return _LOADED[plugin]


def _of_file(path: Path) -> Plugin:
    try:
        source = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise _refusal(f"cannot be read: {(error.strerror or 'not a file').lower()}", str(path)) from None
    except UnicodeDecodeError:
        raise _refusal("must be UTF-8 text", str(path)) from None
    small = f"must not be larger than {MAX_BYTES // 1024} KiB, because it travels with every trial"
    for holds, rule in (
        (path.suffix == ".py", "must be a Python file, NAME.py, or the name of an installed module"),
        (len(source.encode()) <= MAX_BYTES, f"{small}; install it as a package and give its name"),
        (source.strip(), "must not be empty"),
    ):
        if not holds:
            raise _refusal(rule, str(path))
    return Plugin(name=path.name, digest=_sha256(source), source=source, path=str(path))


def _stored(item: Mapping[str, Any]) -> Plugin:
    """Read what a document holds of a plugin."""
    name, digest, source = (item.get(key, "") for key in ("name", "digest", "source"))
    if not all(isinstance(value, str) for value in (name, digest, source)) or not name:
        raise _refusal("must be a path, the name of a module, or {name, digest, source}", dict(item))
    if not source and name.endswith(".py"):
        raise _refusal("needs its source, because it is a file", name)
    if source and digest != _sha256(source):
        raise _refusal("must have the digest of its source; write the file's path, and it is computed", digest)
    return Plugin(name=name, digest=digest or _module_digest(name), source=source)


class _Text(importlib.abc.ExecutionLoader):
    """Loads a module from its text."""

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin

    def get_filename(self, fullname: str) -> str:
        return self.plugin.name

    def get_source(self, fullname: str) -> str:
        return self.plugin.source


def _import_file(plugin: Plugin) -> list[Added]:
    name = f"{_PREFIX}{re.sub(r'[^A-Za-z0-9_]', '_', Path(plugin.name).stem)}_{plugin.digest[:12]}"
    loader = _Text(plugin)
    module = ModuleType(name)
    module.__spec__ = importlib.util.spec_from_loader(name, loader, origin=plugin.name)
    sys.modules[name] = module  # dataclasses look for the names of types there
    try:
        with _importing(plugin) as found:
            loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return found


@contextlib.contextmanager
def _importing(plugin: Plugin) -> Iterator[list[Added]]:
    """Collect what an import registers; what it prints goes to stderr, since stdout may be read by a program."""
    try:
        with collecting() as found, contextlib.redirect_stdout(sys.stderr):
            yield found
    except (Exception, SystemExit) as error:
        raise ConfigError(_failure(plugin, error)) from error
    found.extend([] if found or plugin.source else added_by(plugin.name))  # a module may have been imported before
    if not found:
        hint = "call icd.register_base_loss, register_method, register_model, register_dataset or register_augmentation"
        raise ConfigError(Problem(rule="registers nothing", source=plugin.name, hint=hint))


def _failure(plugin: Plugin, error: BaseException) -> Problem:
    """Say in one line why an import failed, with the plugin's own line."""
    syntax = isinstance(error, SyntaxError) and error.filename == plugin.name
    line = getattr(error, "lineno", None) if syntax else next((at for _, at in _lines_of(error, plugin.name)), None)
    if isinstance(error, ConfigError):
        first = error.problems[0]
        return Problem(rule=first.rule, source=plugin.name, line=line, hint=first.hint)
    hint = ""
    if isinstance(error, ModuleNotFoundError) and error.name != plugin.name:
        hint = "a plugin is one file or an installed package: move it into the file, or install it on every machine"
    return Problem(rule=f"cannot be imported: {_told(error)}", source=plugin.name, line=line, hint=hint)


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _lines_of(error: BaseException, *names: str) -> list[tuple[str, int | None]]:
    """Find the lines of some files in a traceback, the innermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    return [(frame.filename, frame.lineno) for frame in reversed(frames) if frame.filename in names]


def fault(error: BaseException) -> str:
    """Say which plugin's line an exception came from, as ``my_losses.py:8: AttributeError: ...``; empty for none."""
    found = _lines_of(error, *(plugin.name for plugin in _LOADED if plugin.source))
    return f"{found[0][0]}:{found[0][1]}: {_told(error)}" if found else ""


def _import_module(plugin: Plugin) -> list[Added]:
    now = _module_digest(plugin.name)
    if now != plugin.digest:
        told = f"plugin {plugin.name} is not what the configuration was written with (digest {plugin.digest[:12]}, here"
        raise StateError(f"{told} {now[:12]}); install the same version everywhere, or begin anew with this one")
    with _importing(plugin) as found:
        importlib.import_module(plugin.name)
    return found


@cache
def _module_digest(name: str) -> str:
    """Digest of all Python files of a module's package, or of the module where it is in none."""
    try:
        spec = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.submodule_search_locations and not spec.origin:
        raise ConfigError(Problem(rule=f"plugin {name!r} is in a package without __init__.py; add one"))
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        hint = "install it there, or give the path of a file, which travels with the configuration"
        raise ConfigError(Problem(rule=f"plugin {name!r} is not installed on {os.uname().nodename}", hint=hint))
    origin = Path(spec.origin)
    files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.relative_to(origin.parent).as_posix()}\n".encode() + file.read_bytes())
    return whole.hexdigest()


def changes(before: Sequence[Mapping[str, str]], now: Sequence[Mapping[str, str]]) -> list[str]:
    """Say what differs between two documents' plugins: ``plugins.my_losses.py: line 7: 'a' -> 'b'``."""
    old, new = ({item["name"]: item for item in items} for items in (before, now))
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new or name not in old:
            lines.append(f"plugins: {name} was {'added' if name in new else 'dropped'}")
        elif old[name]["digest"] != new[name]["digest"]:
            digests = f"digest {old[name]['digest'][:12]} -> {new[name]['digest'][:12]}"
            texts = old[name].get("source", ""), new[name].get("source", "")
            lines.append(f"plugins.{name}: {digests}{first_change(*texts)}")
    return lines


def changed_files(items: Sequence[Any]) -> list[str]:
    """Say which files are not any more what a document was written with, where they are still there to be read."""
    lines = []
    for item in items if isinstance(items, list) else ():
        path = Path(str(item.get("path", ""))) if isinstance(item, Mapping) else Path()
        if path.name and path.is_file():
            lines += changes([_stored(item).to_data()], [_of_file(path).to_data()])
    return lines


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _refusal(rule: str, value: object) -> ConfigError:
    return ConfigError(Problem(rule=rule, value=value))
