"""What a hostile tenant sends, and what its neighbours notice of it."""
