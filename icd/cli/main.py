"""Entry of the command: finds the verb, and turns every error into one readable line and an exit code."""

import errno
import importlib
import json
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence

import click

from icd import __version__
from icd.cli.console import lasting_streams
from icd.cli.hiding import HidingFormatter, hide
from icd.cli.stopping import STOPPED_BY, worked
from icd.errors import ConfigError, IcdError, SetupError, did_you_mean

# Verb -> where its click command is. Imported when used: the listing of verbs must not wait for torch.
COMMANDS: Mapping[str, str] = {
    "train": "icd.cli.train:train",
    "validate": "icd.cli.train:validate",
    "schema": "icd.cli.schema:schema",
    "teacher": "icd.cli.teacher:teacher",
    "plan": "icd.cli.plan:plan",
    "sweep": "icd.cli.sweep:sweep",
    "resume": "icd.cli.sweep:resume",
    "status": "icd.cli.status:status",
    "trials": "icd.cli.status:trials",
    "stop": "icd.cli.control:stop",
    "confirm": "icd.cli.confirm:confirm",
    "explain": "icd.cli.explain:explain",
    "table": "icd.cli.tournament:tournament",
    "report": "icd.cli.report:report",
    "compare": "icd.cli.report:compare",
    "specialists": "icd.cli.specialists:specialists",
    "export": "icd.cli.export:export",
    "ui": "icd.cli.ui:ui",
    "flush": "icd.cli.control:flush",
    "methods": "icd.cli.listing:methods",
    "models": "icd.cli.listing:models",
    "datasets": "icd.cli.listing:datasets",
    "doctor": "icd.cli.doctor:doctor",
}

SUMMARIES: Mapping[str, str] = {
    "train": "Train one configuration.",
    "validate": "Check a configuration or a sweep without training.",
    "schema": "Print what a trial's or a sweep's file may hold, for editors.",
    "teacher": "Train, import and list teachers, and keep their answers in tables.",
    "plan": "Say what a sweep would try and cost.",
    "sweep": "Run a sweep from its file, or go on with it.",
    "resume": "Go on with a sweep by its name.",
    "status": "Say how sweeps stand.",
    "trials": "List the trials of a sweep.",
    "stop": "End a sweep that runs; it can be resumed.",
    "confirm": "Retrain the best trials and baselines on fresh seeds, and compare them on test images.",
    "explain": "Say what each part of the best configuration is worth.",
    "table": "Tune several methods with the same budget, and compare them on fresh seeds.",
    "report": "Write a sweep's report, one HTML file.",
    "compare": "Put sweeps side by side.",
    "specialists": "Put one setting for several pairs beside the best of each pair.",
    "export": "Write a trial as a configuration and weights.",
    "ui": "Look at a sweep in MLflow and optuna-dashboard.",
    "flush": "Send MLflow what it has not been told.",
    "methods": "List methods, base losses and the paper's rows.",
    "models": "List networks.",
    "datasets": "List data sets.",
    "doctor": "Check this machine, or every node of a cluster (--cluster).",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"no verb {args[0]!r}; {did_you_mean(args[0], list(COMMANDS))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(SUMMARIES.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="icd")
@click.option("--debug", is_flag=True, help="Show tracebacks and debug messages.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
def icd(debug: bool, quiet: bool) -> None:
    """Hyperparameter search for implicit Clustering Distillation.

    Exit codes: 0 done, a used-up budget included; 2 usage or configuration; 3 environment or data; 4 training, or too
    many trials of a sweep, failed; 5 state conflict; 6 integrity; 70 bug; 130/143 interrupted, resumable.
    """
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(HidingFormatter("icd: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("icd").setLevel(level)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code and never raises."""
    words = list(sys.argv[1:] if arguments is None else arguments)
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
        _check_names(words)
        code = icd.main(words, prog_name="icd", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Abort:
        return 130
    except click.exceptions.NoArgsIsHelpError as error:  # a group without a verb; its message is the help
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        _say("USAGE", f"{error.format_message().rstrip('.')}; see '{_help_of(error)}'")
        return 2
    except KeyboardInterrupt:
        _say("INTERRUPTED", "stopped before training began; nothing to resume")
        return 130
    except IcdError as error:
        if "--debug" in words:
            sys.stderr.write(hide(traceback.format_exc()))
        _report(error)
        return _exit_code(error)
    except UnicodeEncodeError as error:
        if not any("\udc80" <= letter <= "\udcff" for letter in str(error.object)):
            return _bug(error, debug="--debug" in words)
        _report(_not_utf8(str(error.object)))  # the name of a file that was found
        return SetupError.exit_code
    except Exception as error:
        return _bug(error, debug="--debug" in words)


def _help_of(error: click.ClickException) -> str:
    """Name the help of the verb that was called wrongly."""
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'icd'} --help"


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


def _exit_code(error: IcdError) -> int:
    return 128 + STOPPED_BY[0] if error.code == "INTERRUPTED" and STOPPED_BY else error.exit_code


def _report(error: IcdError) -> None:
    lines = [str(problem) for problem in error.problems] if isinstance(error, ConfigError) else [str(error)]
    for line in lines:
        _say(error.code, line)


def _bug(error: Exception, *, debug: bool) -> int:
    if debug:
        sys.stderr.write(hide(traceback.format_exc()))
        return 70
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


def write_json(value: object) -> None:
    """Print a value for programs."""
    click.echo(json.dumps(value, indent=1))


if __name__ == "__main__":
    sys.exit(main())
