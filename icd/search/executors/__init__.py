"""Where attempts run: processes of this machine (``local``) or a Ray cluster (``ray``)."""
