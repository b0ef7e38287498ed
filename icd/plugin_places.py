"""Where a plugin says what it registers: the file and the line of a class."""

import ast
import inspect
from pathlib import Path
from typing import Any

from icd.plugins import Plugin
from icd.registry import Registry


def place_of_class(table: Registry[Any], cls: type) -> tuple[str, int | None]:
    """Give the name of the file and the line of a class that a plugin registered; ``("", None)`` for any other.

    A line is None where the class is not written as one, or a module's text cannot be found.
    """
    plugin = table.owner_of(cls)
    if not isinstance(plugin, Plugin):
        return "", None
    name, text = plugin.name, plugin.source
    if not text:
        try:
            file = Path(inspect.getsourcefile(cls) or "")
            name, text = file.name, file.read_text(encoding="utf-8-sig")
        except (OSError, TypeError, UnicodeDecodeError):
            return plugin.name, None
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    return name, found[0].lineno if found else None
