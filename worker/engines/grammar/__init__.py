"""Grammars that an output must follow."""
