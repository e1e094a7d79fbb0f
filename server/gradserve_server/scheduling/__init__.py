"""Live programs, what they wait for, and the worker that serves them."""
