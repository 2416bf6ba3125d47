"""The folder `tokens` is the package `latchkey`, with all packages in it."""

from setuptools import find_packages, setup

setup(
    packages=["latchkey", *(f"latchkey.{name}" for name in find_packages("tokens"))],
    package_dir={"latchkey": "tokens"},
)
