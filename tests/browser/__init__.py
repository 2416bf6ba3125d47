"""A package, so the fixtures that these tests share end with the last test."""
