"""APIs of jobs that generate nothing: vectors, scores, classes, tokens."""
