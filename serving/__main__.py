"""The command line of serving: `start` serves the model, `predict` asks a server, `probe` checks its health."""

import sys
from pathlib import Path

from contract.commands import Command, argument, port
from contract.commands import main as run_command
from serving.model.payload import POLARITIES

_VOLUMES = argument(
    "--volumes",
    type=Path,
    metavar="DIR",
    help="the folder that holds deploy-model/ (default: $VOLUMES, or /)",
)
_COMMON = (
    _VOLUMES,
    argument("--port", type=port, default=8080, help="the port for predictions (default: 8080)"),
)
_SOCKET = argument("--socket", type=Path, metavar="PATH", help="a Unix socket instead of a port")
COMMANDS = (
    Command(
        "start",
        "serve the model that the pointer names, until Ctrl-C or SIGTERM",
        "serving.commands:start",
        (
            *_COMMON,
            argument(
                "--host",
                default="127.0.0.1",
                help="the address to listen on; 0.0.0.0 in a container, :: for IPv6 too (default: 127.0.0.1)",
            ),
            _SOCKET,
            argument(
                "--log",
                type=Path,
                metavar="FILE",
                help="the log file; - prints the log (default: DIR/logs/torchserve.log)",
            ),
            argument(
                "--metrics",
                metavar="HOST:PORT",
                help="the address of the metrics for Prometheus, or unix:PATH (default: $METRICS_ADDRESS, or "
                "127.0.0.1:8082, or any free port if that is taken)",
            ),
            argument(
                "--wait",
                action="store_true",
                help="before the first model is deployed: wait for it, not ready; otherwise this is an error",
            ),
        ),
        "Serve the model that deploy-model/current.json names, until Ctrl-C or SIGTERM. The server is ready once it "
        "has answered a canary prediction. When the pointer names another version, the server switches to it without "
        "losing a request. With MODEL_VERSION set, it serves that version only.",
    ),
    Command(
        "probe",
        "check the health of the server on this machine",
        "serving.probe:probe",
        (
            *_COMMON,
            _SOCKET,
            argument("--live", action="store_true", help="liveness: the server answers, ready or not"),
            argument("--timeout", type=float, default=8.0, help="seconds to wait for the answer (default: 8)"),
        ),
        "Ask the server on this machine whether it is ready: whether a prediction with a known answer is right. Exit "
        "status 0 if so, 1 if not. For the health checks of containers.",
    ),
    Command(
        "predict",
        "ask a running server for the label of an image",
        "serving.commands:predict",
        (
            *_COMMON,
            argument("images", type=Path, nargs="+", metavar="IMAGE", help="an image file, such as PNG or JPEG"),
            argument(
                "--polarity",
                choices=POLARITIES,
                help="the polarity of the image (default: that of the training images)",
            ),
            argument("--url", help="another server: http://host:port, or with the model's whole path"),
            argument("--name", help="the model's name (default: the name in the pointer)"),
            argument("--json", action="store_true", help="print the server's answer unchanged"),
        ),
        "Ask a running server for the labels of image files, and print their nearest neighbours.",
    ),
    Command(
        "collected",
        "show how many images of clients are kept",
        "serving.collect.commands:collected",
        (_VOLUMES, argument("--json", action="store_true", help="print the counts as JSON")),
        "Show how many of the images that clients sent are kept: by answer and by reason, since when, and how large. "
        "`drawn` counts those that were drawn at random, whatever their reason is.",
    ),
    Command(
        "forget",
        "remove images of clients",
        "serving.collect.commands:forget",
        (
            _VOLUMES,
            argument("--request", default="", metavar="ID", help="those of this request (X-Request-Id)"),
            argument("--before", default="", metavar="DATE", help="those kept before this date, or time, in UTC"),
        ),
        "Remove images of clients, with their records. What was labelled and copied to the data volume stays there.",
    ),
)


def main(words: list[str] | None = None) -> int:
    """Run a command.

    Args:
        words: The arguments; None takes those of the process.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted.
    """
    return run_command("python -m serving", "Serve the model, and ask a server.", COMMANDS, words)


if __name__ == "__main__":
    sys.exit(main())
