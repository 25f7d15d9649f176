"""What frames a prompt and which positions count: tokenizer, mask, and the layers of an encoder."""
