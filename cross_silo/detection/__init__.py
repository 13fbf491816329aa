"""What detectors have in common: checks of their settings and the suppression of overlapping boxes. No MindSpore."""
