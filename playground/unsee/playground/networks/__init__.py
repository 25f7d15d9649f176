"""The playground's networks and their optimiser: diffusion models, tokenizer and judge."""
