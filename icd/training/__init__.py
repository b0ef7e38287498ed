"""Training of one network: the step, the loop, checkpoints; nothing here knows of searches, trackers or clusters."""

STUDENT = "student.safetensors"  # in a trial's folder: weights after its last epoch
