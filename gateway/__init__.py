"""The HTTP side: requests in, jobs onto the queue, chunks back as answers. It holds no model and no tokenizer."""
