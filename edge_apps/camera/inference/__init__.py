"""The frame loop: preprocess, infer and smooth, with a model that can be replaced while it runs."""
