"""Writes MJPEG of a Raspberry Pi camera to stdout: ``picamera2_mjpeg.py CAMERA WIDTH HEIGHT FPS``.

A program of its own for the system's Python, which has picamera2; it needs nothing else of this project.
"""

import sys
import threading


def main() -> None:
    """Until stdout is closed."""
    from picamera2 import Picamera2  # type: ignore[import-not-found,unused-ignore]
    from picamera2.encoders import JpegEncoder  # type: ignore[import-not-found,unused-ignore]
    from picamera2.outputs import FileOutput  # type: ignore[import-not-found,unused-ignore]

    number, width, height = map(int, sys.argv[1:4])
    microseconds = round(1e6 / float(sys.argv[4]))
    cameras = len(Picamera2.global_camera_info())
    if number >= cameras:
        sys.exit(f"there is no camera {number}; libcamera sees {cameras}")
    camera = Picamera2(number)
    limits = {"FrameDurationLimits": (microseconds, microseconds)}
    camera.configure(camera.create_video_configuration(main={"size": (width, height)}, controls=limits))
    camera.start_recording(JpegEncoder(), FileOutput(sys.stdout.buffer))
    threading.Event().wait()  # whoever reads ends this process


if __name__ == "__main__":
    main()
