"""What is kept of a sweep: the Optuna study, its database and locks, and the sweep's files."""
