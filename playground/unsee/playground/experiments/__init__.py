"""Experiments on the playground: every concept, composition, ablation, and their pages."""
