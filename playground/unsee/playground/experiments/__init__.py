"""Experiments on the playground: every concept, composition, ablation; each writes a record."""
