"""What a device runs: pictures, runtimes, the camera program. Needs numpy, OpenCV and one runtime; never torch."""

__version__ = "0.1.0"
