"""The command ``icd``, one file per group of verbs."""
