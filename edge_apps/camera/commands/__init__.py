"""The commands of ``edge-camera``: parse options, call, print."""
