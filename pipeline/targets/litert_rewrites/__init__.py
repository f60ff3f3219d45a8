"""Rewrites of a graph for LiteRT's converter, applied to ``.tflite`` files only."""
