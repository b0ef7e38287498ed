"""Writes a sweep's report, from where its folder can be seen.

ray job submit -- python jobs/report.py quickstart --root /shared/runs
"""

import sys

from icd.cli.main import main

sys.exit(main(["report", *sys.argv[1:]]))
