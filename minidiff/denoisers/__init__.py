"""Denoisers: networks and closed forms, each a callable from a noisy picture to a prediction."""
