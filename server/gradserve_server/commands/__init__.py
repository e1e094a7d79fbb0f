"""What `gradserve-server` can do. One command, one file: `HELP`, `add_arguments(parser)` and `run(arguments)`."""
