"""The catalogue: which modules exist, and what their metadata says. It contains no HTTP server."""
