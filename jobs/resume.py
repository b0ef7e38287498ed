"""Goes on with a sweep on the cluster this job belongs to.

ray job submit -- python jobs/resume.py quickstart --root /shared/runs
"""

import sys

from icd.cli.main import main

sys.exit(main(["resume", "--address", "auto", *sys.argv[1:]]))
