"""Runs a sweep's best trials on fresh seeds, on the cluster this job belongs to.

ray job submit -- python jobs/confirm.py quickstart --top 3 --seeds 5 --root /shared/runs
"""

import sys

from icd.cli.main import main

sys.exit(main(["confirm", "--address", "auto", *sys.argv[1:]]))
