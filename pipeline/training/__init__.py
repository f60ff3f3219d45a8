"""Training a network of the zoo on labelled pictures."""
