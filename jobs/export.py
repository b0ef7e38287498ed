"""Exports a sweep's winner, from where its folder can be seen; write below the shared folder, a job's own is dropped.

ray job submit -- python jobs/export.py quickstart -o /shared/quickstart --root /shared/runs
"""

import sys

from icd.cli.main import main

sys.exit(main(["export", *sys.argv[1:]]))
