"""Many trials, one ledger."""
