"""The shared autograd core: many queries, one forward and one backward pass."""
