"""Every option that more than one verb has, and the kind of command that a verb is; imports nothing heavy.

``-q``, ``--debug``, ``--json`` and ``--root`` stand before or after the verb. A verb that can run on a cluster takes
``--submit``; where ICD_SUBMIT is set, verbs that cannot are refused, since they would look at this machine unasked.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from icd.errors import SetupError, UsageError
from icd.redact import HidingFormatter
from icd.storage.bucket import local_root

if TYPE_CHECKING:
    import torch

    from icd.worker.trial_inputs import TrialFolders

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])
CACHE_GB = 64.0  # as icd.teacher.cache_plan.BUDGET_GB, which would bring torch along


def start_logging(*, debug: bool = False, quiet: bool = False) -> None:
    """Send the messages of icd to stderr, without secrets."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(HidingFormatter("icd: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("icd").setLevel(logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO)


def _before_too(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Take what was given before the verb where nothing was given after it."""
    name, above = str(param.name), ctx.find_root()
    if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE or above is ctx:
        return value
    given = above.params.get(name)
    return given if given not in (None, False) else value


def _loudness(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        start_logging(debug=param.name == "debug", quiet=param.name == "quiet")


def _root(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Take the root before the verb too, and for a verb the usual one where none was given."""
    found: Path | None = _before_too(ctx, param, value)
    return local_root("runs") if found is None and ctx.find_root() is not ctx else found


_LOUDNESS: dict[str, Any] = {"is_flag": True, "expose_value": False, "callback": _loudness}
QUIET = click.option("-q", "--quiet", help="Show warnings and errors only.", **_LOUDNESS)
DEBUG = click.option("--debug", help="Show tracebacks and debug messages.", **_LOUDNESS)
JSON = click.option("--json", "as_json", is_flag=True, callback=_before_too, help="Print the result as JSON.")
ROOT = click.option(
    "--root",
    type=local_root,
    metavar="PATH",
    envvar="ICD_ROOT",
    show_envvar=True,
    callback=_root,
    help="Folder of results, or s3://BUCKET/PREFIX.  [default: runs]",
)
NAME = click.argument("name")
FILE = click.argument("file", type=click.Path(path_type=Path))
SET = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Change one value of the file.  [repeatable]"
)
RENAME = click.option("--name", help="Give the sweep another name than the file's.")
OUTPUT = click.Path(path_type=Path, dir_okay=False)
DATA_ROOT = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    envvar="ICD_DATA",
    show_envvar=True,
    help="Look for data sets in this folder.  [default: one in your cache]",
)
DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="Run nothing: print what is known, or what confirm or ablate would run first."
)
SEEDS = click.option("--seeds", type=click.IntRange(2, 100), help="Run at most so many fresh seeds.  [default: 5]")


def waits(seconds: float, words: str) -> Callable[[F], F]:
    """Make ``--wait``, which takes so many seconds unless it says another number."""
    least_0 = click.FloatRange(min=0)
    return click.option("--wait", "seconds", type=least_0, default=seconds, show_default=True, help=words)


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Make one decorator of several options, which help shows in this order."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


WHERE = together(ROOT, DATA_ROOT, click.option("--download", is_flag=True, help="Fetch data sets that can be fetched."))
DEVICE = together(
    click.option("--device", default="auto", show_default=True, help="Train on auto, cpu, cuda or cuda:N."),
    click.option("--threads", type=click.IntRange(1, 1024), help="Let torch use so many CPU threads."),
    click.option(
        "--workers",
        type=click.IntRange(0, 256),
        default=2,
        show_default=True,
        help="Let so many threads decode images from files.",
    ),
)
CACHE = together(
    click.option(
        "--teacher-cache",
        type=click.Choice(["auto", "full", "stream", "off"]),
        default="auto",
        show_default=True,
        help="Keep the teacher's answers for every view (full), for one sequence of views (stream), or not at all "
        "(off); auto takes what was begun, else the smaller one that fits and is worth it, else off.",
    ),
    click.option(
        "--teacher-cache-gb",
        type=click.FloatRange(min=0),
        default=CACHE_GB,
        show_default=True,
        help="Let a teacher's cache take so much disk.",
    ),
)
ENGINE = click.option(
    "--engine",
    type=click.Choice(["auto", "eager", "graph"]),
    help="Run steps one operation after the other, or as recorded CUDA graphs.  [env var: ICD_ENGINE; default: auto]",
)
DRIVER = together(
    click.option(
        "--executor",
        type=click.Choice(["ray", "process"]),
        default="ray",
        show_default=True,
        help="Run trials by Ray Tune, or by plain processes on this machine.",
    ),
    click.option(
        "--address",
        default="local",
        show_default=True,
        callback=lambda ctx, param, value: _address(ctx, param, value),
        help="Use this Ray cluster: local starts one here, auto or HOST:PORT joins the one of this machine.",
    ),
    ENGINE,
)


def _address(ctx: click.Context, param: click.Parameter, address: str) -> str:
    """Refuse at once what no cluster can be joined by."""
    if "://" in address:
        from icd.search.executors.ray.connection import refuse_other_forms

        try:
            refuse_other_forms(address)
        except SetupError as error:
            raise UsageError(str(error)) from None
    return address


SUBMIT = click.option(
    "--submit",
    envvar="ICD_SUBMIT",
    show_envvar=True,
    metavar="URL",
    help="Do it as a job on the cluster of this Ray dashboard.",
)
READ = together(JSON, ROOT, SUBMIT)  # of a verb that looks at a sweep
_DETACH = click.option("--detach", is_flag=True, help="With --submit: print the job's id, and do not follow it.")
DRIVE = together(SET, DRIVER, CACHE, JSON, WHERE, SUBMIT, _DETACH)  # of a verb that trains trials


class Verb(click.Command):
    """A verb: icd's own options may follow it, and ``--submit`` sends it to a cluster."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        DEBUG(QUIET(self))

    def invoke(self, ctx: click.Context) -> Any:
        names = {parameter.name for parameter in self.params}
        submit, detach = ctx.params.pop("submit", None), ctx.params.pop("detach", False)
        if submit is not None:
            from icd.cli.submit import send

            return send(submit, ctx, detach=detach)
        if detach:
            raise click.UsageError("--detach goes with --submit", ctx)
        if "root" in names and "submit" not in names and os.environ.get("ICD_SUBMIT") and self.name != "doctor":
            words = "unset it for this command: env -u ICD_SUBMIT"
            raise UsageError(f"ICD_SUBMIT is set, but '{ctx.command_path}' works on this machine only; {words}")
        if ctx.find_root().params.get("as_json") and "as_json" not in names:
            raise click.UsageError(f"'{ctx.command_path}' has no --json", ctx)
        return super().invoke(ctx)


def places(options: Mapping[str, Any]) -> "TrialFolders":
    """Give the places an invocation uses."""
    from icd.worker.trial_inputs import TrialFolders

    names = ("root", "data_root", "download")
    return TrialFolders(**{name: options[name] for name in names if name in options})


def device_of(name: str, threads: int | None) -> "torch.device":
    """Choose the device.

    Raises:
        SetupError: If it is not there.
    """
    import torch

    from icd.worker.gpus import no_silent_cpu, training_device, visible_gpus, why_unusable

    if threads:
        torch.set_num_threads(threads)
    if name == "auto":
        device = training_device()
        if device.type == "cpu" and (unused := no_silent_cpu(visible_gpus())):
            logger.warning("training on the CPU: %s", unused)
        return device
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise SetupError(f"--device must be auto, cpu, cuda or cuda:N, but got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        why = "" if torch.cuda.is_available() else f": {why_unusable()}"
        raise SetupError(f"--device {name}: torch can use {torch.cuda.device_count()} CUDA devices here{why}")
    return device


def check_writable(folder: Path) -> None:
    """Make the folder and try what training will do there: write, sync, rename, remove.

    Raises:
        SetupError: If it cannot be done.
    """
    probe = folder / f".icd-probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as file:
            file.write(b"probe")
            os.fsync(file.fileno())
        moved = probe.replace(probe.with_suffix(".moved"))
        moved.unlink()
    except OSError as error:
        raise SetupError(f"{folder} must be a folder that can be written: {error.strerror}; choose --root") from error
