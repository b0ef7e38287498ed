"""Sends MLflow what it has not been told of a sweep, from where its folder can be seen.

ray job submit -- python jobs/sync.py quickstart --root /shared/runs
"""

import sys

from icd.cli.main import main

sys.exit(main(["sync", *sys.argv[1:]]))
