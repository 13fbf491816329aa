"""Starting, watching and ending role processes; the run directory and what is written in it."""
