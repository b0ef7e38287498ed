"""Messages between a driver and its workers on Ray while they train: an actor beside the driver keeps them.

Tune carries what a worker waits for, an epoch and its answer. Everything else goes through here: steps, stacks and
lines up; that an attempt was given up, has to go or must keep its GPU from others down. The driver says all its orders
anew every second, so an actor that was lost and started again knows them soon.
"""

import contextlib
import secrets
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from icd.search.core.messages import Down, Order, Up

_ANSWER_S = 10.0


class Control:
    """The actor: orders by the name of an attempt, and what was said of each."""

    def __init__(self) -> None:
        self._orders: Mapping[str, Down | None] | None = None
        self._said: list[tuple[str, Up]] = []

    def put(self, orders: Mapping[str, Down | None]) -> None:
        """Take the driver's orders; attempts without an entry were given up."""
        self._orders = orders

    def take(self) -> list[tuple[str, Up]]:
        """Give the driver what was said since it last asked."""
        said, self._said = self._said, []
        return said

    def say(self, name: str, message: Up) -> None:
        """Keep what a worker says."""
        self._said.append((name, message))

    def order(self, name: str) -> Down | None:
        """Give a worker its order; None where there is none, or none is known."""
        return None if self._orders is None else self._orders.get(name, Order.SHUTDOWN)


class ControlOwner:
    """The driver's end; nothing here waits, unless it is asked to."""

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        remote: Any = ray.remote(Control)
        self.name = f"icd-control-{secrets.token_hex(4)}"  # in the namespace of the driver's job
        self._actor = remote.options(name=self.name, num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
        self._asked: Any = None

    def put(self, orders: Mapping[str, Down | None], *, wait: bool = False) -> None:
        """Say what each attempt under way is to do."""
        done = self._actor.put.remote(dict(orders))
        if wait:
            with contextlib.suppress(RayError):
                ray.get(done, timeout=_ANSWER_S)

    def take(self, *, wait: bool = False) -> list[tuple[str, Up]]:
        """Give what workers have said: as far as it is here, or with ``wait`` everything until now."""
        said = self._taken(wait)
        return said + self._taken(wait) if wait else said  # the first may have been asked for long ago

    def _taken(self, wait: bool) -> list[tuple[str, Up]]:
        self._asked = self._asked or self._actor.take.remote()
        ready, _ = ray.wait([self._asked], timeout=_ANSWER_S if wait else 0)
        if not ready:
            return []
        asked, self._asked = self._asked, None
        try:
            said: list[tuple[str, Up]] = ray.get(asked)
        except RayError:  # it is started again
            return []
        return said

    def close(self) -> None:
        """End the actor."""
        with contextlib.suppress(RayError):
            ray.kill(self._actor)


class ControlLink:
    """A worker's end, for one attempt; ``control`` is the actor's name.

    Where the actor does not answer, nothing is known and nothing is wrong.
    """

    def __init__(self, control: str, name: str) -> None:
        self._name = name
        self._actor: Any = ray.get_actor(control)

    def say(self, message: Up, *, wait: bool = False) -> None:
        """Tell the driver."""
        with contextlib.suppress(RayError):
            done: Any = self._actor.say.remote(self._name, message)
            if wait:
                ray.get(done, timeout=_ANSWER_S)

    def order(self) -> Down | None:
        """Ask what to do."""
        try:
            order: Down | None = ray.get(self._actor.order.remote(self._name), timeout=_ANSWER_S)
        except RayError:
            return None
        return order
