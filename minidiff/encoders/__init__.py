"""Encoders: what turns words and pictures into what the denoisers read."""
