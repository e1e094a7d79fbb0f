"""Images without torch: decode, place, render, encode. Runs in the pool, never on the event loop or in a worker."""
