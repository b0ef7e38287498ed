"""One trial, a function of its configuration: nothing here knows of searches, trackers or clusters."""
