"""How ranges are found: the calibration set, observers, our quantizer. torch and torchao; no exporter library."""
