"""The web page: static files, as they are in the repository, served with strict rules for browsers."""
