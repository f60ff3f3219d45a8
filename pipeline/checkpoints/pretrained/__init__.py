"""Weights that others published: which there are, how to get them, and how their tensors become a checkpoint."""
