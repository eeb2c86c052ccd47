"""The kinds of engines, and what a job's run is with each."""
