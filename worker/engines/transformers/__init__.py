"""The `transformers` engine: every sampling promise of the contract inside one continuous batch."""

# Read in the order data flows: `settings` → `loading` (a model in memory, with fast attention on CPUs) → `engine` (the
# contract's face) → `batching` (the library's loop, the only file that knows its internals) → `sampling` (a token is
# chosen for each sequence) → back through `engine`.
