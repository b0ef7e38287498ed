"""Makes the ledger's tables where they are missing: optuna-dashboard does not start without them.

python make_ledger.py      (ICD_STORAGE_URL names the database)
"""

import os

from icd.search.study.database import open_storage

open_storage(os.environ["ICD_STORAGE_URL"])
