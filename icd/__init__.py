"""Hyperparameter search for implicit Clustering Distillation; importing it imports no framework."""

__version__ = "0.1.0"
