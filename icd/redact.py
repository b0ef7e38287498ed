"""What the command says goes through here: passwords of the environment and of URLs are taken out.

Messages are written without them in the first place. This is for what libraries say in their own errors, and for the
tracebacks of ``--debug``.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

HIDDEN = "***"
# Only the end of a name tells: SECRETS_DIR and TOKENIZERS_PARALLELISM hold no secret.
_NAMES = re.compile(
    r"(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|(API|ACCESS|PRIVATE|SECRET)_?KEY)S?(_?\d+)?$", re.IGNORECASE
)
_USER = re.compile(r"(?<=://)([^/\s'\"]*)@")
_SHORTEST = 6  # a shorter value would be found in ordinary words


def hide(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Give a text without secrets of the environment and without users and passwords in URLs."""
    found = _secrets(os.environ if environment is None else environment)
    for secret in sorted({secret for secret in found if len(secret) >= _SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _USER.sub(f"{HIDDEN}@", text)


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        # A path that exists says where a secret is; a value that merely holds slashes is a secret itself.
        if _NAMES.search(name) and not (os.sep in value and Path(value).exists()):
            yield value
        for user in _USER.findall(value):
            password = user.partition(":")[2]
            yield from (password, unquote(password))


class HidingFormatter(logging.Formatter):
    """Writes log records without secrets, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return hide(super().format(record))
