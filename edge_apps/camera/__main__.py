"""``python -m edge_apps.camera`` is ``edge-camera``."""

from edge_apps.camera.commands.main import main

if __name__ == "__main__":
    main(prog_name="edge-camera")
