"""Turns parts of a body into parts of a job: every field is honoured, or refused with an error that names it."""
