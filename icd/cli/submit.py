"""``--submit``: the same verb as a job on a Ray cluster, from a machine that need not stay.

A verb with ``remote_option`` runs here, or is written down as words and sent: options that were given, the text of its
file, nothing else of this machine. ``icd.cli.job`` runs it over there.
"""

import functools
import logging
import re
import secrets
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from icd import __version__
from icd.cli.job import FILE_VARIABLE, MARK, pack
from icd.cli.main import write_json
from icd.errors import SetupError, UsageError
from icd.search.ray_jobs import Ended, Job, Jobs, differs
from icd.trial.bucket import url_of

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

_MOST = 64_000  # characters of a packed file; an argument of a process has 128 KiB at most
_OWN = ("submit", "detach")
_PREAMBLE = re.compile("Running entrypoint for job .*|.* Runtime env is setting up.")  # Ray's, at the top of a log
_SUBMIT = click.option(
    "--submit", envvar="ICD_SUBMIT", metavar="URL", help="Do it on the cluster of this Ray dashboard [ICD_SUBMIT]."
)
_DETACH = click.option("--detach", is_flag=True, help="With --submit: print the job's id and do not follow its log.")


def remote_option(command: F) -> F:
    """``--submit``, for a verb that soon ends; to stand right above the function."""
    return _SUBMIT(_here_or_there(command))


def remote_options(command: F) -> F:
    """``--submit`` and ``--detach``, for a verb that drives; to stand right above the function."""
    return _SUBMIT(_DETACH(_here_or_there(command)))


def _here_or_there(command: F) -> F:
    @functools.wraps(command)
    def chosen(submit: str | None, detach: bool = False, **options: Any) -> Any:
        if submit is not None:
            return _there(submit, click.get_current_context(), detach=detach)
        if detach:
            raise click.UsageError("--detach goes with --submit")
        return command(**options)

    return chosen  # type: ignore[return-value]


def _there(url: str, context: click.Context, *, detach: bool) -> int:
    """Send the verb, and follow it to its exit code."""
    verb, file = str(context.info_name), context.params.get("file")
    words = words_of(context)
    name, variables = (context.params.get("name"), {}) if file is None else read_file(verb, file, context.params)
    job = job_of(verb, name, words, variables)
    jobs = Jobs(url)
    if differs(jobs.ray_here, jobs.ray_there):
        logger.warning(
            "the cluster has Ray %s, this machine %s; the job runs with the cluster's", jobs.ray_there, jobs.ray_here
        )
    try:
        jobs.submit(job)
        if detach:
            if context.params.get("as_json"):
                write_json({"job": job.id, "submit": jobs.url})
            else:
                click.echo(job.id)
            _say_how_to_return(job, jobs.url, verb, name)
            return 0
        logger.info("job %s on %s; Ctrl-C leaves it running", job.id, jobs.url)
        if any(parameter.name == "output" for parameter in context.command.params):
            logger.info("files that it writes stay on the cluster")
        reader = Reader()
        ended = jobs.follow(job.id, reader.take)
        reader.close()
    except KeyboardInterrupt:
        _say_how_to_return(job, jobs.url, verb, name)
        return 130
    return code_of(ended, job)


def words_of(context: click.Context) -> list[str]:
    """Write down a verb as it was called: what was given on the command line, and not this machine's defaults.

    A file is left out, as it travels by its text, and so is ``--submit``. ``--address auto`` is added where a verb has
    it: the job runs on the cluster that it uses.

    Raises:
        UsageError: If an option names a place that only this machine knows.
    """
    words = [word for option, value in _given(context.parent) for word in _option_words(option, value)]
    words.append(str(context.info_name))
    arguments: list[str] = []
    for parameter, value in _given(context):
        if isinstance(parameter, click.Option):
            words += _option_words(parameter, value)
        elif parameter.name != "file" and value is not None:
            arguments += [str(item) for item in (value if isinstance(value, tuple) else (value,))]
    if any(parameter.name == "address" for parameter in context.command.params):
        words.append("--address=auto")
    return [*words, *(["--", *arguments] if arguments else [])]


def _given(context: click.Context | None) -> list[tuple[Any, Any]]:
    """Give what stands on the command line, with its value."""
    if context is None:
        return []
    return [
        (parameter, context.params[str(parameter.name)])
        for parameter in context.command.params
        if context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        and parameter.name not in _OWN
    ]


def _option_words(option: click.Option, value: Any) -> list[str]:
    name = max(option.opts, key=len)
    if option.name == "address":
        raise UsageError("--submit and --address exclude each other: a job uses the cluster that it runs on")
    if option.is_bool_flag:
        return [name if value else max(option.secondary_opts, key=len)]
    values = value if option.multiple else (value,)
    return [f"{name}={_of_the_cluster(name, item) if isinstance(item, Path) else item}" for item in values]


def _of_the_cluster(name: str, path: Path) -> str:
    """Write a path as the cluster takes it: a bucket by its URL, not as this machine's copy of it."""
    place = url_of(path) or str(path)
    if not (place.startswith("/") or "://" in place):
        raise UsageError(f"{name} must be an absolute path of the cluster with --submit, but got {place!r}")
    return place


def read_file(verb: str, file: Path, params: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Check the sweep in a file as the verb would, and pack it; gives the sweep's name and the job's variables.

    Raises:
        ConfigError: With every problem of the file.
        UsageError: If it is too large for a job.
    """
    from icd.config.read_sweep import read_sweep
    from icd.config.yaml import apply_overrides, read_yaml

    document = read_yaml(file)
    renamed = params.get("name")
    changes = [*params["overrides"], *([] if renamed is None else [f"name={renamed}"])]
    document = apply_overrides(document, changes) if changes else document
    name = read_sweep(document).name
    if verb == "table":
        from icd.results.tournament import entries

        entries(document)
    packed = pack(file.name, file.read_text(encoding="utf-8"))
    if len(packed) > _MOST:
        raise UsageError(
            f"{file} is too large for a job ({len(packed)} characters packed, {_MOST} at most); put it into the "
            f"cluster's shared folder, and run it from there: ray job submit -- python jobs/{verb}.py FILE"
        )
    return name, {FILE_VARIABLE: packed}


def job_of(verb: str, name: str | None, words: list[str], variables: dict[str, str], *, unique: str = "") -> Job:
    """Make a job of a verb's words; ``unique`` ends its id, by default the time and four random digits."""
    unique = unique or f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
    about = re.sub(r"[^A-Za-z0-9._-]", "_", name or "all")
    return Job(
        id=f"icd-{verb}-{about}-{unique}",
        entrypoint=shlex.join(["python", "-m", "icd.cli.job", __version__, *words]),
        metadata={"icd": verb, "sweep": name or "", "version": __version__},
        variables=variables,
    )


class Reader:
    """Takes a job's log apart: marked lines to stdout, the others to stderr."""

    def __init__(self) -> None:
        self._begun = ""

    def take(self, text: str) -> None:
        """Read on; a line is written when it is whole."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line.startswith(MARK):
                sys.stdout.write(line.removeprefix(MARK) + "\n")
            elif not _PREAMBLE.fullmatch(line):
                sys.stderr.write(line + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Write what has no newline."""
        if self._begun:
            self.take("\n")


def code_of(ended: Ended, job: Job) -> int:
    """Give the exit code of a job that has ended.

    Raises:
        SetupError: If the verb was never run.
    """
    if ended.status == "STOPPED":
        logger.warning("job %s was ended by 'ray job stop'; what it drove can be resumed", job.id)
        return 143
    if ended.code is None:
        if ended.status == "SUCCEEDED":
            return 0
        raise SetupError(f"job {job.id} was not run to its end by the cluster: {' '.join(ended.message.split())[:300]}")
    if ended.code in (1, 126, 127):  # which no verb exits with
        raise SetupError(
            f"job {job.id} could not run icd there (exit code {ended.code}); 'python' on the head's PATH must have icd"
        )
    if ended.code < 0 or ended.code > 128:
        number = -ended.code if ended.code < 0 else ended.code - 128
        logger.warning("job %s was ended by signal %d; what it drove can be resumed", job.id, number)
        return 128 + number
    return ended.code


def _say_how_to_return(job: Job, url: str, verb: str, name: str | None) -> None:
    about = "" if verb == "table" or name is None else f" {name}"  # a table is several sweeps
    logger.info("job %s runs on without this machine; look at it, end it, read its log:", job.id)
    logger.info("  icd status%s --submit %s", about, url)
    logger.info("  icd stop%s --submit %s", about or " NAME", url)
    logger.info("  ray job logs %s --follow --address %s", job.id, url)
