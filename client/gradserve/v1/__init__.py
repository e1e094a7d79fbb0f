"""The contract, generated from `protos/gradserve/v1` by `make generate`."""
