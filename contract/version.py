"""The version of the project; CHANGELOG.md says what each version changed."""

VERSION = "0.9.0"
