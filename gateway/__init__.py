"""The HTTP side: requests in, jobs onto the queue, chunks back as answers, without a model or a tokenizer."""
