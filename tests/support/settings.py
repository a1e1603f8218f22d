"""The settings that tests bring: what this project starts with, whatever params.yaml and project.yaml say by now."""

from pathlib import Path

PARAMS_FILE = Path(__file__).with_name("params.yaml")
PROJECT_FILE = Path(__file__).with_name("project.yaml")
