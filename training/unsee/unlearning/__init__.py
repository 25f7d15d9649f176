"""Unlearning one concept: from images and prompts to a delta, in anchored mode or paper mode."""
