"""Published figures beside counted ones. torch is loaded when something is counted."""
