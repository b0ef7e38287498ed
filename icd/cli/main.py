"""Entry of the command: finds the verb, and turns every error into one readable line and an exit code."""

import errno
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from icd import __version__
from icd.cli.options import DEBUG, JSON, QUIET, ROOT, start_logging
from icd.cli.signals import STOPPED_BY, worked
from icd.errors import ConfigError, IcdError, SetupError, did_you_mean
from icd.redact import hide
from icd.streams import lasting_streams

# Section of the help -> verb -> the module below icd.cli that has it, and what it does. A verb is imported when it is
# used: help and completion must not wait for torch.
SECTIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Configurations": {
        "validate": ("configurations", "Check the file of a trial or a sweep, and print it with every default."),
        "schema": ("configurations", "Print what the file of a trial or a sweep may hold, for editors."),
        "train": ("configurations", "Train one configuration."),
    },
    "Sweeps": {
        "plan": ("sweep", "Say what a sweep would try and take, before it starts."),
        "sweep": ("sweep", "Run a sweep from its file, or go on with it."),
        "resume": ("sweep", "Go on with a sweep by its name."),
        "try": ("look", "Add a trial of your own to a sweep, running or not."),
        "status": ("look", "Say how sweeps stand."),
        "trials": ("look", "List the trials of a sweep."),
        "show": ("look", "Show one trial of a sweep with everything that is known of it."),
        "logs": ("look", "Print what the workers of a sweep wrote."),
        "stop": ("sweep", "End a sweep that runs; it can be resumed."),
        "sync": ("sweep", "Send MLflow what it has not been told."),
        "rm": ("look", "Remove a sweep."),
    },
    "Claims": {
        "confirm": ("claims", "Retrain the best trials and baselines on fresh seeds, and compare them on test images."),
        "ablate": ("claims", "Say what each part of the best configuration is worth."),
        "benchmark": ("claims", "Tune several methods with the same budget, and compare them on fresh seeds."),
        "compare": ("outcomes", "Put sweeps side by side."),
        "report": ("outcomes", "Write a sweep's report, one HTML file."),
        "export": ("outcomes", "Write a trial as a configuration and weights."),
    },
    "Teachers": {
        "teacher": ("teacher", "Train, import and list teachers, and keep their answers in caches."),
    },
    "Look-up": {
        "methods": ("configurations", "List methods, base losses and the paper's rows."),
        "models": ("configurations", "List networks."),
        "datasets": ("configurations", "List data sets."),
        "check-plugin": ("checks", "Check the losses, networks and data that a plugin adds."),
        "ui": ("outcomes", "Open a sweep in MLflow and optuna-dashboard."),
        "doctor": ("checks", "Check this machine, or every node of a cluster."),
    },
}
VERBS: Mapping[str, tuple[str, str]] = {verb: found for verbs in SECTIONS.values() for verb, found in verbs.items()}


class Verbs(click.Group):
    """A group that says which verb an unknown one is meant for."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        verb, known = args[0] if args else "", self.list_commands(ctx)
        if verb and verb not in known and not verb.startswith("-"):
            raise click.UsageError(f"no verb {verb!r}; {did_you_mean(verb, known)}", ctx)
        return super().resolve_command(ctx, args)


class _Lazy(Verbs):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"icd.cli.{VERBS[cmd_name][0]}")
        name = "try_trial" if cmd_name == "try" else cmd_name.replace("-", "_")  # a word of Python's own
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, VERBS))
        for title, verbs in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(verb.ljust(width), summary) for verb, (_, summary) in verbs.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="icd")
@QUIET
@DEBUG
@JSON
@ROOT
def icd(as_json: bool, root: Path | None) -> None:
    """Search the hyperparameters of knowledge distillation, implicit Clustering Distillation first of all.

    The options below may stand before or after the verb.

    Exit codes: 0 done, a used-up budget included; 2 usage or configuration; 3 environment or data; 4 training, or too
    many trials or runs, failed; 5 state conflict, results are missing, or 'icd stop' ended a confirmation, an ablation
    or a benchmark; 6 integrity; 70 bug; 129/130/143 interrupted, resumable.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code and never raises."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # OpenMP reads it when torch is loaded, here or in a worker. Threads that wait for each other awake make a training
    # three to five times slower on cores that others use too (docs/results/2026-11-30-waiting.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with lasting_streams() as lowest:
        code = _run(words)
        sys.stdout.flush()
        error = lowest.error if lowest else None
        if code == 0 and error is not None and error.errno != errno.EPIPE:  # that is: icd ... | head
            _say(SetupError.code, f"stdout cannot be written: {error.strerror}; what it was to hold is not whole")
            return 0 if worked() else SetupError.exit_code
        return code


def _run(words: list[str]) -> int:
    try:
        start_logging()
        _check_names(words)
        code = icd.main(words, prog_name="icd", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Abort:  # a question was not answered
        _say("INTERRUPTED", "stopped before anything was done")
        return 130
    except click.exceptions.NoArgsIsHelpError as error:  # a group without a verb; its message is the help
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        help_of = context.command_path if context else "icd"
        _say("USAGE", f"{error.format_message().rstrip('.')}; see '{help_of} --help'")
        return 2
    except KeyboardInterrupt:
        _say("INTERRUPTED", "stopped before training began; nothing to resume")
        return 130
    except (Exception, SystemExit) as error:  # a plugin may call sys.exit
        if "--debug" in words:
            sys.stderr.write(hide(traceback.format_exc()))
        if (known := _known(error)) is None:
            if isinstance(error, SystemExit):  # completion of the shell ends so
                raise
            return 70 if "--debug" in words else _bug(error)
        for line in map(str, known.problems) if isinstance(known, ConfigError) else [str(known)]:
            _say(known.code, line)
        return 128 + STOPPED_BY[0] if known.code == "INTERRUPTED" and STOPPED_BY else known.exit_code


def _known(error: BaseException) -> IcdError | None:
    """Give the error that a person can do something about; None for a bug."""
    if isinstance(error, IcdError):
        return error
    if isinstance(error, UnicodeEncodeError) and any("\udc80" <= letter <= "\udcff" for letter in error.object):
        return _not_utf8(error.object)  # the name of a file that was found
    plugins = sys.modules.get("icd.plugins")  # where nobody has imported it, there is no plugin
    told = plugins.fault(error) if plugins is not None else ""
    return ConfigError(told) if told else None


def _check_names(words: Sequence[str]) -> None:
    """Refuse what is not UTF-8, before anything is written: databases, JSON and YAML have no way to say it.

    Raises:
        SetupError: For a word of the command line, or a folder that the environment names.
    """
    for name in (*words, *(os.environ.get(variable, "") for variable in ("ICD_ROOT", "ICD_DATA"))):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise _not_utf8(name) from None


def _not_utf8(name: str) -> SetupError:
    shown = name.encode(errors="backslashreplace").decode()
    return SetupError(
        f"names of files and folders must be UTF-8, but got {shown}; rename it, or choose --root elsewhere"
    )


def _bug(error: Exception) -> int:
    try:
        with tempfile.NamedTemporaryFile("w", prefix="icd-traceback-", suffix=".txt", delete=False) as file:
            file.write(hide(traceback.format_exc()))
        where = f"traceback in {file.name}"
    except OSError:
        where = "its traceback cannot be written, see --debug"
    name = type(error).__name__
    _say("BUG", f"{name}: {' '.join(str(error).split())[:200]}; {where}; please report it")
    return 70


def _say(code: str, text: str) -> None:
    sys.stderr.write(f"icd: error[{code}] {hide(' '.join(text.split()))}\n")


if __name__ == "__main__":
    sys.exit(main())
