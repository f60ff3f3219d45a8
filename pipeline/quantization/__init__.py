"""Calibrate and quantize a captured network, and simulate the accuracy of its int8 form."""
