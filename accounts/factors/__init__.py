"""The second factors, one module each."""
