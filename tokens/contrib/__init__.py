"""Integrations with other packages: one module for each, imported only by a project that has that package."""
