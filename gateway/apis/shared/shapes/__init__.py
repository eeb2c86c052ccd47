"""Parts of request bodies that several APIs share, free of logic."""
