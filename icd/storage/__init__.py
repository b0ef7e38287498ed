"""Folders and buckets: whole objects under names, and locks."""
