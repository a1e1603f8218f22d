"""Pages that commands write for a person: an HTML file each, made of a template."""

import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from contract.errors import InputError
from contract.files import replace


def write_page(path: Path, template: Path, **values: Any) -> None:
    """Write a page.

    Args:
        path: The file.
        template: The Jinja template, which escapes what it shows.
        values: What it shows.

    Raises:
        InputError: The file cannot be written.
    """
    environment = Environment(loader=FileSystemLoader(template.parent), autoescape=True, trim_blocks=True)
    text = environment.get_template(template.name).render(values)
    try:
        replace(path, io.BytesIO(text.encode()))
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): name another file") from error
