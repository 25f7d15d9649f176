"""How fast the steps of unlearning are."""
