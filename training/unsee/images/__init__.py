"""The few images of a concept, as pictures and latents, and how well a prompt explains them."""
