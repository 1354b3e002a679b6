"""Training: one straight script per checkpoint, and the loop that they share."""
