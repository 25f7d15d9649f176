"""Kinds of text encoders: how each frames a prompt, ends it, pads it, and what of it is trained."""
