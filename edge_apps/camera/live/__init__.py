"""The state of a running camera, for whoever looks at it: frames, labels and latencies of the last minutes."""
