"""Measures what each part of a sweep's winner is worth, on the cluster this job belongs to.

ray job submit -- python jobs/ablate.py quickstart --root /shared/runs
"""

import sys

from icd.cli.main import main

sys.exit(main(["ablate", "--address", "auto", *sys.argv[1:]]))
