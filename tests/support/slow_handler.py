"""A handler that can be slow: a request with the header X-Slow takes that many seconds, with all of its batch."""

from pathlib import Path

SLOW = """

_handle = Handler.handle


def _slow(self, data, context):
    headers = [_headers(context.get_all_request_header(number)) for number in range(len(data))]
    time.sleep(max(float(each.get("x-slow", 0)) for each in headers))
    return _handle(self, data, context)


Handler.handle = _slow
"""


def make_slow(folder: Path) -> Path:
    """Change the handler in a model's folder."""
    with (folder / "handler.py").open("a") as handler:
        handler.write(SLOW)
    return folder
