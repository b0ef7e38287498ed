"""Hyperparameter search for implicit Clustering Distillation; importing it imports no framework.

``icd.register_base_loss``, ``register_method``, ``register_model``, ``register_dataset`` and ``register_augmentation``
are for plugins (docs/tutorials/plugins.md).
"""

from typing import Any

__version__ = "0.1.0"

_REGISTER = (
    "register_augmentation",
    "register_base_loss",
    "register_dataset",
    "register_method",
    "register_model",
)


def __getattr__(name: str) -> Any:
    """Import what plugins call when it is asked for."""
    if name in _REGISTER:
        from icd import register

        return getattr(register, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_REGISTER])
