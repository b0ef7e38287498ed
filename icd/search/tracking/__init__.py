"""What MLflow is told; with ``doctor`` and ``results/exports/registry`` the only code that imports mlflow."""
