"""How ranges are found: the recorded calibration set, observers, our quantizer. torch and torchao; no exporter library."""
