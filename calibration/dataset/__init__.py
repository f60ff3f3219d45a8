"""The calibration set: choose its images, leave out duplicates and images without content, record it."""
