"""Plain values and pure rules of a search: attempts and what comes of them, records, ranks, dead terms."""
