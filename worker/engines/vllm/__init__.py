"""The `vllm` engine: vLLM in this process, with our own sampling inside its batch where a request needs it."""

# Read in the order data flows: `settings` → `arguments` (vLLM's own flags) → `engine` (the contract's face) → `tether`
# (vLLM's processes, tied to this one) → `requests` (what vLLM is asked for each job) → `hosted` (what runs inside
# vLLM's processes). `lora` shares one model among several names. Nothing of the transformers engine is imported: vLLM
# needs another version of that library.
