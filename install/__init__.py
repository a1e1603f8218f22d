"""Makes .venv: standard library alone, and nothing that Python 3.6 cannot read, so that an old one says what to do."""
