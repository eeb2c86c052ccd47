"""`/v1/arena`: votes on pairs of answers, the ranking that follows from them, and their export."""
