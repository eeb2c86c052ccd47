"""`millstream up` and the supervision of its children."""
