"""`make demo`: unlearn a concept, evaluate, serve it from Triton, and show before and after."""
