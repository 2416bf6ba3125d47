"""What HTTP adds: who asks, the cookie, the rate by address, how an error is answered."""
