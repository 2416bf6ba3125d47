"""What an account's owner can do: register, change the name, address or password, delete the account."""
