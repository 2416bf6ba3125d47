"""What a session is and what becomes of it. Nothing here knows of a request."""
