"""Unit tests of methods."""
