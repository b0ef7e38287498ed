"""Sweeps over images so small that an epoch takes milliseconds; what they train is real."""

from typing import Any

VIEWS: dict[str, Any] = {"crop_flip": {"size": 16, "pad": 2}}


def protocol(epochs: int) -> dict[str, Any]:
    """How their students are trained."""
    return {"preset": "digits100", "epochs": epochs, "batch_size": 12, "views": VIEWS}


def unpruned(epochs: int, trials: int, **more: Any) -> dict[str, Any]:
    """Changes to the sweep of ``crash.harness``: every trial is trained to its last epoch."""
    return {"protocol": protocol(epochs), "pruner": "none", "budget": {"trials": trials}, **more}
