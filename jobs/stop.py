"""Tells the driver of a sweep to leave: with --now after the epoch under way, else after the trials under way.

ray job submit -- python jobs/stop.py quickstart --now --root /shared/runs
"""

import sys

from icd.cli.main import main

sys.exit(main(["stop", *sys.argv[1:]]))
