"""What is asked in an evaluation: concepts, prompt templates and the questions made from them."""
