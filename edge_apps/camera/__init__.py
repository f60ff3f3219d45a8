"""The camera program ``edge-camera``: capture, preprocess, infer, show, and write down how long each took."""
