"""Models: where they come from, what they are made of, what they expect of an image."""
