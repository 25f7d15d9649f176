"""The pipeline classes of diffusers that a base may be of, and what differs between them."""
