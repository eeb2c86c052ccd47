"""From a body to a `Submission`: every field honoured, or refused with an error that names it."""
