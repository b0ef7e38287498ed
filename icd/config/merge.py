"""``extends: FILE``: one document laid over another."""

from typing import Any

from icd.config.document import Document, KeyPath, Origin
from icd.config.forms import full_form, is_range, is_whole


def laid_over(below: Document, above: Document) -> Document:
    """Lay a document over the one that it extends.

    Mappings are laid over mappings key by key. Ranges, choices, lists, a base loss and an augmentation replace what
    was there.
    """
    origins: dict[KeyPath, Origin] = dict(below.origins)
    data = {name: value for name, value in above.data.items() if name != "extends"}
    own = {path: origin for path, origin in above.origins.items() if path[:1] != ("extends",)}
    below_data = below.data if isinstance(below.data, dict) else {}
    merged = _merged(below_data, data, (), own, origins)
    problems, broken = (*below.problems, *above.problems), (*below.broken, *above.broken)
    return Document(merged, above.source, origins, problems=problems, broken=broken)


def _merged(below: Any, above: Any, path: KeyPath, own: dict[KeyPath, Origin], origins: dict[KeyPath, Origin]) -> Any:
    name = path[-1] if path else ""
    first, second = full_form(name, below), full_form(name, above)
    both = isinstance(first, dict) and isinstance(second, dict) and isinstance(above, dict)
    if both and not is_whole(name, second) and not is_range(first):
        origins.update({path: own[path]} if path in own else {})
        inner = {key: _merged(first.get(key), value, (*path, key), own, origins) for key, value in second.items()}
        return {**first, **inner}
    for old in [old for old in origins if old[: len(path)] == path]:
        del origins[old]
    origins.update({new: origin for new, origin in own.items() if new[: len(path)] == path})
    return above
