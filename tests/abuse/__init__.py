"""A hostile tenant against a running cluster: what it does must cost nobody else an answer."""
