"""What the owner of an account can do: register, change the name, the address or the password, delete it."""
