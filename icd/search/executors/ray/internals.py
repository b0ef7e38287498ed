"""All that we use of Ray and Tune and that their documentation does not promise, each with its reason.

``tests/unit/search/executors/test_ray_internals.py`` looks up every name of ``USES``, so that a Ray that has changed
one of them fails there by its name.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import ray._private.ray_constants as constants
from ray.air.execution._internal import RayActorManager
from ray.exceptions import AuthenticationError, RayActorError, RayTaskError
from ray.tune.execution import tune_controller
from ray.tune.experiment import Trial

# Dotted name: why no public one will do.
USES: Mapping[str, str] = {
    "ray._private.state.state.get_draining_nodes": "only the autoscaler is told which nodes are taken back",
    "ray._private.worker.print_to_stdstream": "Ray's listener prints on stdout, where --json writes",
    "ray._private.ray_constants.ENABLE_RAY_CLUSTER": "no setting binds a Ray of our own to loopback on Linux",
    "ray._raylet.Config.initialize": "token settings are read once for each process, a driver may need others",
    "ray._raylet.AuthenticationTokenLoader.instance": "likewise",
    "ray._raylet.GcsClient": "ray.init() tries for a quarter of an hour; this has a time limit",
    "ray.tune.execution.class_cache.ENV_VARS_TO_PROPAGATE": "Tune writes AWS keys into the command lines of workers",
    "ray.tune.execution.tune_controller.RayActorManager": "Tune ends the experiment for an exception it does not know",
    "ray.air.execution._internal.RayActorManager._actor_task_failed": "likewise",
    "ray.air.execution._internal.RayActorManager._actor_start_failed": "likewise",
    "ray.tune.execution.tune_controller.TuneController.get_live_trials": "no public call ends a trial that waits",
    "ray.tune.execution.tune_controller.TuneController.stop_trial": "likewise",
    "ray.tune.experiment.Trial.init_local_path": "likewise: Tune reads its folder at the end",
    "ray.tune.experiment.Trial.error_file": "a scheduler is told that a trial failed, but not why",
}
RAISED = "Ray raised "  # how the text of an exception begins that is neither an actor's death nor the trial's own


def draining_nodes() -> dict[str, int]:
    """Nodes that are taken back, and until when: milliseconds since 1970; 0 for no limit."""
    state: Any = ray._private.state.state
    return dict(state.get_draining_nodes())


def print_instead(printer: Any) -> Any:
    """Let Ray's listener print through this function; gives the one before."""
    worker: Any = ray._private.worker
    before = getattr(worker, "print_to_stdstream", None)
    if before is not None and printer is not None:
        worker.print_to_stdstream = printer
    return before


@contextlib.contextmanager
def bound_to_loopback() -> Iterator[None]:
    """Let a Ray that is started in this block listen on loopback only.

    Ray picks the address of a network card even where 127.0.0.1 is asked for, and then binds every port to all
    interfaces. It stays on loopback where clusters are switched off, its default on macOS and Windows.
    """
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def keep_credentials() -> None:
    """Let Tune pass no credentials on: it writes the driver's AWS keys into the command line of every worker."""
    from ray.tune.execution import class_cache

    names: set[str] = getattr(class_cache, "ENV_VARS_TO_PROPAGATE", set())
    names -= {name for name in names if name.startswith("AWS_")}


def forget_token() -> None:
    """Make Ray read its token settings again; it reads them once for each process."""
    raylet: Any = ray._raylet
    with contextlib.suppress(AttributeError):
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


def nodes_of(address: str, timeout_s: float) -> str:
    """Ask a GCS for its nodes; says why it does not answer, nothing where it does or wants another token."""
    client: Any = ray._raylet
    try:
        client.GcsClient(address=address).get_all_node_info(timeout=timeout_s)
    except AuthenticationError:
        return ""  # whoever joins says that better
    except Exception as error:
        return " ".join(str(error).split())[:160] or type(error).__name__
    return ""


def drop_waiting(controller: Any, name: str) -> None:
    """End a trial of Tune's that still waits for a place."""
    for trial in controller.get_live_trials():
        if trial.config.get("name") == name and trial.status == Trial.PENDING:
            trial.init_local_path()  # Tune makes its folder only when the trial begins
            controller.stop_trial(trial)
            return


def error_text(trial: Trial) -> str:
    """Read what Tune wrote about the error; the first line only counts it."""
    try:
        return Path(trial.error_file).read_text().partition("\n")[2].strip()
    except (OSError, TypeError):
        return ""


class ForgivingActorManager(RayActorManager):
    """Tune's manager of actors, to which every exception is the end of one trial.

    Tune knows two kinds: an actor's death, and what the trial's own code raised. For any other, such as the
    OutOfMemoryError of a worker that Ray's memory monitor has killed, it ends the whole experiment.
    """

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        known = self._as_known(tracked_actor_task._tracked_actor, exception)
        super()._actor_task_failed(tracked_actor_task, known)

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, self._as_known(tracked_actor, exception))

    def _as_known(self, tracked_actor: Any, exception: Exception) -> Exception:
        """Give the same as an actor's death, once the actor is dead for certain: it may not train on."""
        if isinstance(exception, RayActorError | RayTaskError):
            return exception
        live: Any = self._live_actors_to_ray_actors_resources.get(tracked_actor)
        if live is not None:
            with contextlib.suppress(Exception):  # whatever Ray says to that, the attempt is over
                ray.kill(live[0])
        name = type(exception).__name__
        return RayActorError(error_msg=f"{RAISED}{name}: {exception}")


@contextlib.contextmanager
def trials_end_alone() -> Iterator[None]:
    """Let every exception that Ray raises within this block for a trial of Tune's end that trial, and not Tune."""
    module: Any = tune_controller
    before = module.RayActorManager
    module.RayActorManager = ForgivingActorManager
    try:
        yield
    finally:
        module.RayActorManager = before
