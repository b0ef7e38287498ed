"""Attempts on a Ray cluster, placed by Ray Tune."""
