"""Teaching a network one style (Johnson, Alahi, Fei-Fei 2016)."""
