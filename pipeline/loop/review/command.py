"""`make review`: serves the page on which collected images get labels."""

import os
from pathlib import Path

from contract.loop import collected
from pipeline.loop.labels import Book
from pipeline.loop.review.app import application, serve
from pipeline.loop.review.desk import Desk
from pipeline.loop.review.queue import Queue
from pipeline.settings import Params


def review(params: Params, volumes: Path, port: int) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        params: `params.yaml`.
        volumes: The folder of the volumes.
        port: Of loopback; 0 is any free one.

    Raises:
        InputError: The port is taken.
        StepError: The data volume cannot be written, or the model now served cannot be read.
    """
    os.environ["VOLUMES"] = str(volumes.absolute())
    book = Book(params.deploy.polarity, params.deploy.max_pixels)
    queue = Queue(volumes.absolute() / collected.FOLDER, book)
    desk = Desk(queue, book, params.data.source, params.deploy.max_pixels)
    found = desk.state()
    waiting = ", ".join(f"{count} {name}" for name, count in found["queues"].items())

    def say(address: str) -> None:
        print(f"images to label: {waiting}; labels go to {found['folder']}")
        if not book.is_alone:
            print(f"{found['folder']} has no locks that hold on every node: open one such page at a time")
        print(f"open {address} (Ctrl-C ends it; whoever has this address may label)", flush=True)

    serve(application(desk), port, say)
