"""What a job leaves to look at and to read by program: losses, summary, pictures."""
