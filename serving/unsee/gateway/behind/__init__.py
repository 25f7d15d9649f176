"""What stands behind the gateway: Triton, and the files of the model repository."""
