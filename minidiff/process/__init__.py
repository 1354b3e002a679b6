"""The shared reverse process: no network, no mask, no text in here."""
