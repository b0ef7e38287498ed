"""What MLflow is told; with ``doctor`` and ``results/registry`` the only code that imports mlflow."""
