"""How good the trained base is: samples to look at, and what the judge recognises."""
