"""Which engines there are here, what was measured, the choice, and Triton configurations."""
