"""Prompts around a concept's name, where they name it, and their token ids and encoder states."""
