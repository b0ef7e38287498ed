"""Attempts in processes of this machine."""
