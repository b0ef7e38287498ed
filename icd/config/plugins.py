"""A document's list of plugins: paths are replaced by text and digest, and what they add is imported.

From then on the document is the same everywhere: on a worker, in a job, in the study that a resume reads.
"""

from dataclasses import replace
from pathlib import Path

from icd.config.document import Document
from icd.errors import Absent, ConfigError, Problem
from icd.plugins import MAX_BYTES_OF_ALL, Plugin, activate, ambient, path_of, resolve

_KEYS = ("student", "method", "teacher", "search")  # of a document that may name what a plugin adds


def with_sources(document: Document, folder: Path) -> Document:
    """Read the files that a document lists, seen from a folder; what is wrong is told when the list is read."""
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("plugins"), list):
        return document
    for index, item in enumerate(data["plugins"]):
        if isinstance(item, str):
            try:
                data["plugins"][index] = resolve(item, folder).to_data()
            except ConfigError:
                data["plugins"][index] = str(path_of(item, folder) or item)
    return document


def with_ambient(document: Document) -> Document:
    """Add the plugins of ``ICD_PLUGINS`` and of installed packages to a trial or a sweep, unless it holds their text.

    Raises:
        ConfigError: If one of them cannot be read.
    """
    data = document.data
    if not isinstance(data, dict) or not any(key in data for key in _KEYS) or not (plugins := ambient()):
        return document
    if isinstance(listed := data.get("plugins", []), list):
        stored = {item.get("name") for item in listed if isinstance(item, dict) and "path" not in item}
        added = [plugin.to_data() for plugin in plugins if plugin.name not in stored]
        data["plugins"] = [*listed, *(item for item in added if item not in listed)]
    return document


def read_plugins(document: Document, problems: list[Problem]) -> tuple[Plugin, ...]:
    """Import a document's plugins; what is wrong is noted and left out."""
    if not isinstance(items := document.data.get("plugins"), list):
        if items is not None:
            problems.append(document.problem(("plugins",), "must be a list of files and modules", value=items))
        return ()
    found: list[Plugin] = []
    for index, item in enumerate(items):
        try:
            plugin = replace(resolve(item, Path.cwd()), path="")  # a trial's document is the same everywhere
            if any(other.name == plugin.name and other != plugin for other in found):
                raise ConfigError(Problem(rule=f"another plugin is called {plugin.name}; rename one of the files"))
            if sum(len(one.source.encode()) for one in {*found, plugin}) > MAX_BYTES_OF_ALL:
                rule = f"all files together must not be larger than {MAX_BYTES_OF_ALL // 1024} KiB"
                raise ConfigError(Problem(rule=f"{rule}; install some as a package, and give its name"))
            activate([*found, plugin])
            found.append(plugin)
        except ConfigError as error:
            for problem in error.problems:
                rule = str(problem) if problem.value is Absent else problem.rule
                problems.append(document.problem(("plugins", index), rule, value=problem.value))
    return tuple(dict.fromkeys(found))
