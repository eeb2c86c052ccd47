"""A gate for changes that make it slower: a few ratios, each of one run, beside those that were committed."""
