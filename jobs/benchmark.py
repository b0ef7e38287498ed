"""Tunes methods alike and compares them on fresh seeds, on the cluster this job belongs to.

ray job submit -- python jobs/benchmark.py search_spaces/table_digits100.yaml --root /shared/runs
"""

import sys

from icd.cli.main import main

sys.exit(main(["benchmark", "--address", "auto", *sys.argv[1:]]))
