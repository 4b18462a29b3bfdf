"""A workflow as a function."""
