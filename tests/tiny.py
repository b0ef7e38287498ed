"""Sweeps over images so small that an epoch takes milliseconds; what they train is real."""

from typing import Any


def views() -> dict[str, Any]:
    """Crops of their 16 x 16 pixels; fresh, because YAML would write a dictionary that comes twice as an alias."""
    return {"crop_flip": {"size": 16, "pad": 2}}


def training(epochs: int) -> dict[str, Any]:
    """How their students are trained."""
    return {"preset": "digits100", "epochs": epochs, "batch_size": 12, "augmentation": views()}


def unpruned(epochs: int, trials: int, **more: Any) -> dict[str, Any]:
    """Changes to the sweep of ``crash.harness``: every trial is trained to its last epoch."""
    return {"training": training(epochs), "pruner": "none", "budget": {"trials": trials}, **more}
