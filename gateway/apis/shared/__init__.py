"""The readers, shapes and writers that several APIs have in common."""
