"""Bodies in and out. Input is typed and bounded here, before it reaches a service."""
