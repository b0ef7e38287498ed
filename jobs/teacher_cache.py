r"""Fills the teacher cache of a trial or a sweep ahead of it, where this job's entry point is placed.

ray job submit --entrypoint-num-gpus 1 -- \
    python jobs/teacher_cache.py search_spaces/quickstart.yaml --root /shared/runs
"""

import sys

from icd.cli.main import main

sys.exit(main(["teacher", "cache", "build", *sys.argv[1:]]))
