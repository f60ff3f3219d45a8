"""Steps of commands that join several rooms of the workbench."""
