"""Measure which operators of a network lose accuracy in int8."""
