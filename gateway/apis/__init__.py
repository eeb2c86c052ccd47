"""The APIs: one folder each, with its shapes, its reader, its writer and its routes."""
