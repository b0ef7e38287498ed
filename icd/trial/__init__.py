"""One trial, a function of its configuration: nothing here knows of searches, trackers or clusters."""

STUDENT = "student.safetensors"  # in a trial's folder: weights after its last epoch
