"""Teachers: trained or imported, identified, and the cache of what they say about each view of each image."""
