"""What is known of the methods themselves, found out without a server: on copies of a model, in the caller's thread."""
