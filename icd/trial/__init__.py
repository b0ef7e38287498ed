"""One trial as a pure function: nothing here knows of searches, trackers or clusters."""

STUDENT = "student.safetensors"  # in a trial's folder: weights after its last epoch
