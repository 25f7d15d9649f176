"""What `text_to_video` gets beside its code: tokenizer, sampler tables, the limits of the base."""
