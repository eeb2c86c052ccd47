"""The choice of each row's next token, by its own parameters."""
