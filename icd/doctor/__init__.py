"""Checks of this machine and of a cluster: what was found, apart from what it means."""
