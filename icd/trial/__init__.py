"""One trial as a pure function: nothing here knows of searches, trackers or clusters."""
