"""Runs a sweep on the cluster this job belongs to.

ray job submit -- python jobs/sweep.py search_spaces/quickstart.yaml --root /shared/runs
"""

import sys

from icd.cli.main import main

sys.exit(main(["sweep", "--address", "auto", *sys.argv[1:]]))
