"""From parts of a body to parts of a job: every field honoured, or refused with an error that names it."""
