"""The files of a model, whatever engine reads them."""
