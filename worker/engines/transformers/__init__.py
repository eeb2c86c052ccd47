"""The `transformers` engine: every sampling promise of the contract inside one continuous batch.

Read in the order data flows: `settings` → `samples`, `loading` (a model in memory) → `engine` (the contract's face) →
`sequence` (one job) → `batching` (the library's loop, the only file that knows its internals) → `attention` (fast
attention on CPUs) → `sampler`, `noise`, `penalties`, `logprobs` (a token is chosen) → back through `engine`.
"""
