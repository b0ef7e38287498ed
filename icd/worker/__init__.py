"""What runs beside the GPU: one attempt, what attempts of a process share, preflight, preemption."""
