"""Running an exported file: manifest, preprocessing, one runner per runtime."""
