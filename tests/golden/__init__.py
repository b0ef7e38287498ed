"""Equality with the authors' numbers."""
