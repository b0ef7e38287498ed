"""A run of a sweep as files that others can use: chosen, checked, written, and registered with MLflow."""
