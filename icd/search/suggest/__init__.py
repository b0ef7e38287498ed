"""Which configuration is tried next: the search space, samplers, pruners, warm starts, lists."""
