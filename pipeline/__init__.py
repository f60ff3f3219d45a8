"""The workbench: from a trained network to files for devices, with proof."""
