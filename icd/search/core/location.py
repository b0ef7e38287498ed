"""Where an attempt runs, and whether trials are kept away from there."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where an attempt runs."""

    host: str  # name of the machine
    # the GPUs it was given there, as CUDA_VISIBLE_DEVICES takes them; empty for none, or for the whole machine
    gpu: str = ""
    node: str = ""  # Ray's name of the node; empty without Ray

    @property
    def machine(self) -> "Location":
        """The whole machine, with all its GPUs."""
        return replace(self, gpu="")

    def __str__(self) -> str:
        host = f"host {self.host}" + (f" (node {self.node[:8]})" if self.node else "")
        return f"GPU {self.gpu} of {host}" if self.gpu else host


def is_quarantined(location: Location | None, quarantined: Mapping[Location, str]) -> bool:
    """Whether a location, or its whole machine, gets no more trials."""
    return location is not None and (location in quarantined or location.machine in quarantined)
