"""``--root``: a folder of results, or the URL of a bucket, which stands for this machine's copy of it from here on."""

from pathlib import Path

import click

from icd.trial.bucket import local_root


def _folder(root: str | Path) -> Path:
    return local_root(root)


ROOT = click.option(
    "--root", type=_folder, metavar="PATH", help="Folder of results, or s3://BUCKET/PREFIX [ICD_ROOT, or runs]."
)
