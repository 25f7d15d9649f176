"""Training the playground base, in stages that resume after an interruption."""
