"""Where frames come from: cameras, network streams, videos, folders of images, a test pattern."""
