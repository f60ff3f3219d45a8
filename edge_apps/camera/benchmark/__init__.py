"""Measure how fast a model runs on this machine."""
