r"""Trains a teacher where this job's entry point is placed; ask for a GPU there, the head node has none.

ray job submit --entrypoint-num-gpus 1 -- \
    python jobs/teacher.py --arch resnet32x4 --data cifar100 --root /shared/runs
"""

import sys

from icd.cli.main import main

sys.exit(main(["teacher", "train", *sys.argv[1:]]))
