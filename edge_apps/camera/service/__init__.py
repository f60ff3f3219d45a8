"""Run the camera program as a systemd service."""
