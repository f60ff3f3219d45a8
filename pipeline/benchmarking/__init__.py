"""What a network costs as files of every kind: size, nearness, delegation and latency, measured on this machine."""
