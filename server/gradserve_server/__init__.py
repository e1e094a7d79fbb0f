"""The server: bytes -> rpc -> imaging -> programs -> scheduling -> autograd -> models, and back once."""
