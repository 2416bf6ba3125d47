"""The keys, and the two kinds of JWT that they sign."""
