"""Post-training quantization algorithms that edit a network before it is lowered."""
