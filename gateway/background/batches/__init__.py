"""The work on one batch: validated, run line by line, finalised."""
