"""The tests, importable so that they share `tests.servers` and `tests.faultproxy`."""
