"""Deltas: the edit of one concept, its folder, card and signature, and composition of several."""
