"""The page to look at: files for a browser, and a bridge from HTTP to the service's own calls."""
