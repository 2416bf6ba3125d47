"""A plugin of pytest that breaks the behaviour on which one guarantee depends: BROKEN_GUARANTEE says which."""

import os
from importlib import import_module

import pytest


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Break it before a module of tests is imported, so that each finds the broken one."""
    # pytest imports plugins before Django has read the settings that the mutations need.
    import_module("tests.proof.mutations").named(os.environ["BROKEN_GUARANTEE"]).apply()
