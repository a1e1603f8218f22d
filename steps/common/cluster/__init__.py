"""Kubernetes, for the steps that ask it for something: the connection to its API, and what pods say."""
