"""What HTTP adds: the client of a request, the cookie, the rate by address, the answers to errors."""
