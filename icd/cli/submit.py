"""``--submit``: a verb as a job of a Ray cluster. It is sent with its file, followed, and ends with its exit code."""

import base64
import gzip
import json
import logging
import os
import re
import secrets
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partialmethod
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from icd.errors import SetupError, UsageError
from icd.storage.bucket import url_of

logger = logging.getLogger(__name__)

MARK = "icd-out: "  # before each line of the verb's stdout, since a job has one log
FILE_VARIABLE = "ICD_JOB_FILE"
_MOST = 100_000  # bytes of a packed file; Ray hands it on as a part of one word, which has 128 KiB at most
_RUN = f'python -m icd.cli.main "$@" | sed -u "s/^/{MARK}/"'
_UNPACK = f'printf %s "${FILE_VARIABLE}" | base64 -d | gunzip'  # Ray fills in each $NAME of a variable's text
_RUN_FILE = f'f=$(mktemp -d)/$0; {_UNPACK} > "$f" && set -- "$@" "$f" && {_RUN}'
_PAUSE_S, _GIVE_UP_S = 1.0, 600.0
_PYTHON = "'python' on the head must have icd"
_TOKEN = "take its token: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE, or unset both where it wants none"


def send(url: str, context: click.Context, *, detach: bool) -> int:
    """Send the verb of a context to the cluster of a dashboard, and follow it to its exit code."""
    verb, params, url = str(context.info_name), context.params, url.rstrip("/")
    words, file = words_of(context), params.get("file")
    if params.get("yes") is False:
        raise UsageError(f"'icd {verb}' must have --yes with --submit: nobody answers a job's question")
    name, variables = (params.get("name"), {}) if file is None else read_file(verb, file, params)
    client = connect(url)
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name or "all")
    job = f"icd-{verb}-{safe}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
    with _said(url, f"'ray job status {job} --address {url}' says whether it runs"):
        client.submit_job(entrypoint=entry(words, file), submission_id=job, runtime_env={"env_vars": variables})
    about = f" {name}" if name and verb != "benchmark" else ""  # which is several sweeps
    logger.info("job %s runs on without this machine; see 'icd status%s --submit %s'", job, about, url)
    logger.info("follow it again with '%s'", _again(job, url))
    if detach:
        click.echo(json.dumps({"job": job, "submit": url}) if params.get("as_json") else job)
        return 0
    with suppress(KeyboardInterrupt):
        return follow(client, url, job)
    return 130


def words_of(context: click.Context) -> list[str]:
    """Write down a verb as it was called: what was given, not this machine's defaults; a file travels by its text."""
    words, arguments = list[str](), list[str]()
    for level in filter(None, (context.parent, context)):
        words += [str(context.info_name)] if level is context else []
        for parameter in level.command.params:
            name, value = str(parameter.name), level.params.get(str(parameter.name), True)
            typed = level.get_parameter_source(name) is ParameterSource.COMMANDLINE
            if typed and isinstance(parameter, click.Option) and name not in ("submit", "detach"):
                words += _option_words(parameter, value)
            elif typed and isinstance(parameter, click.Argument) and name != "file" and value is not None:
                arguments += map(str, value if isinstance(value, tuple) else (value,))
    words += ["--address=auto"] if "address" in context.params else []
    return [*words, *(["--", *arguments] if arguments else [])]


def _option_words(option: click.Option, value: Any) -> list[str]:
    word = max(option.opts, key=len)
    if option.is_bool_flag:
        return [word if value else max(option.secondary_opts, key=len)]
    texts = []
    for item in value if option.multiple else (value,):
        texts.append((url_of(item) or str(item)) if isinstance(item, Path) else str(item))  # a bucket by its URL
        if isinstance(item, Path) and not (texts[-1].startswith("/") or "://" in texts[-1]):
            raise UsageError(f"{word} must be an absolute path of the cluster with --submit, but got {texts[-1]!r}")
    if option.name == "overrides" and any(text.lstrip().startswith("plugins") for text in texts):
        raise UsageError("--set plugins would be looked for on the cluster with --submit; list them in FILE instead")
    if option.name == "address":
        raise UsageError("--submit and --address exclude each other: a job uses the cluster that it runs on")
    return [f"{word}={text}" for text in texts]


def read_file(verb: str, file: Path, params: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Check the sweep in a file as the verb would, and read it; gives the sweep's name and the job's variables."""
    from icd.config.read_sweep import read_sweep
    from icd.config.yaml import parse_yaml, read_yaml, yaml_text

    changes = [*params["overrides"], *(f"name={json.dumps(name)}" for name in [params.get("name")] if name)]
    document = read_yaml(file, changes)
    if verb == "benchmark":
        from icd.results.benchmark import entries

        entries(document)
    text, plain = file.read_text(encoding="utf-8"), read_yaml(file).data
    if parse_yaml(text, str(file)).data != plain:  # what it extends and the text of plugins travel with it
        text = yaml_text(plain, allow_unicode=True)
    packed = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    if len(packed) > _MOST:
        told = f"packed (gzip, base64) it must have at most {_MOST} bytes, but got {len(packed)}"
        raise UsageError(f"{file} is too large for a job: {told}; run it from the cluster's shared folder")
    return read_sweep(document).name, {FILE_VARIABLE: packed}


def entry(words: list[str], file: Path | None) -> str:
    """Write the command line of a job; ICD_SUBMIT is unset there, or its own jobs would go round in a circle."""
    run = (_RUN, "icd", *words) if file is None else (_RUN_FILE, file.name, *words, "--")
    return shlex.join(["env", "-u", "ICD_SUBMIT", "bash", "-o", "pipefail", "-c", *run])


def connect(url: str) -> Any:
    """Give Ray's client of a dashboard, which finds the cluster's token by itself."""
    if not re.fullmatch(r"https?://[^/@\s]+", url):
        raise SetupError("--submit must be a Ray dashboard without user or password, such as http://127.0.0.1:8265")
    os.environ["RAY_API_SERVER_ADDRESS"] = url  # RAY_ADDRESS would lead elsewhere
    with _said(url, "check address and port (8265 unless chosen otherwise), and that both sides have ray[default]"):
        from ray.job_submission import JobSubmissionClient

        ask = partialmethod(JobSubmissionClient._do_request, timeout=(5.0, 30.0))  # Ray's own waits for ever
        return type("Patient", (JobSubmissionClient,), {"_do_request": ask})(url)


@contextmanager
def _said(url: str, advice: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of Ray, of its HTTP library, or of an answer that is no JSON
        text = " ".join(str(error).partition("\n\n")[0].split())[:200] or type(error).__name__
        refused = type(error).__name__ == "AuthenticationError"
        told = f"refuses this machine: {text}; {_TOKEN}" if refused else f"takes no jobs: {text}; {advice}"
        raise SetupError(f"{url} {told}") from error


def _again(job: str, url: str) -> str:
    return f"ray job logs {job} --follow --address {url}"


def follow(client: Any, url: str, job: str) -> int:
    """Hand on a job's log as it grows, and give its exit code; a connection that breaks is tried again for a while."""
    seen, answered = 0, time.monotonic()
    while True:
        try:
            info = client.get_job_info(job)  # before the log, which then holds all that an ended job wrote
            text: str = client.get_job_logs(job)
        except Exception as error:
            if "status code 404" in str(error):
                raise SetupError(f"{url} knows job {job} no more: {error}; try 'icd resume'") from error
            if (silent := time.monotonic() - answered) > _GIVE_UP_S:
                told = f"has not answered for {silent / 60:.0f} minutes ({error}), and job {job} may run on"
                raise SetupError(f"{url} {told}; follow it again with '{_again(job, url)}'") from error
            time.sleep(_PAUSE_S)
            continue
        ended, answered, before = info.status.is_terminal(), time.monotonic(), seen
        seen = max(seen, len(text) if ended else text.rfind("\n") + 1)
        for line in text[before:seen].splitlines():
            click.echo(line.removeprefix(MARK), err=not line.startswith(MARK))
        if ended and info.driver_exit_code in (None, 1, 126, 127) and str(info.status) == "FAILED":  # no verb's codes
            lost = info.driver_exit_code is None  # of a job that ran, or of one that Ray could not start
            what, advice = ("ended", "give the same command again") if lost else ("could not run icd", _PYTHON)
            raise SetupError(f"job {job} {what} there: {info.message}; {advice}")
        if ended:
            code = {"STOPPED": 143, "SUCCEEDED": 0}.get(str(info.status), info.driver_exit_code or 0)
            return code if code >= 0 else 128 - code
        time.sleep(_PAUSE_S)
