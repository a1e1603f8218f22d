"""The command line of serving: `start` serves the model that the pointer names, `predict` asks a running server.

`probe` asks whether it is well.
"""

import argparse
import sys
from pathlib import Path

from serving import commands
from serving.model.payload import POLARITIES
from serving.pointer import PointerError
from serving.probe import probe
from serving.torchserve.launch import AddressError, TorchServeError


def main() -> int:
    arguments = _parser().parse_args()
    try:
        status: int = arguments.run(arguments)
    except (PointerError, AddressError, commands.UsageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return commands.WRONG_INPUT
    except TorchServeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--volumes",
        type=Path,
        metavar="DIR",
        help="the folder that holds deploy-model/ (default: $VOLUMES, or /)",
    )
    common.add_argument("--port", type=_port, default=8080, help="the port that answers predictions (default: 8080)")

    start = subcommands.add_parser(
        "start",
        parents=[common],
        help="serve the model that the pointer names, until Ctrl-C or SIGTERM",
        description="Serve the model that deploy-model/current.json names, until Ctrl-C or SIGTERM. It is ready "
        "once a canary prediction was answered. When the pointer names another version, that is served, without a "
        "request lost. With MODEL_VERSION set, it serves that version and no other.",
    )
    start.add_argument(
        "--host", default="127.0.0.1", help="the address to listen on; 0.0.0.0 in a container (default: 127.0.0.1)"
    )
    start.add_argument(
        "--log", type=Path, metavar="FILE", help="where the log goes; - prints it (default: DIR/logs/torchserve.log)"
    )
    start.add_argument(
        "--metrics",
        metavar="HOST:PORT",
        help="where Prometheus gets metrics (default: $METRICS_ADDRESS, or 127.0.0.1:8082, or any port if it is taken)",
    )
    start.set_defaults(run=commands.start)

    check = subcommands.add_parser(
        "probe",
        parents=[common],
        help="ask whether the server on this machine answers predictions",
        description="Ask the server on this machine for a prediction with a known answer: status 0 if it is right, "
        "1 if not. For the health checks of containers.",
    )
    check.add_argument("--live", action="store_true", help="only ask whether it answers as any version, or is busy")
    check.add_argument("--timeout", type=float, default=8.0, help="seconds to wait for the answer (default: 8)")
    check.set_defaults(run=probe)

    predict = subcommands.add_parser(
        "predict",
        parents=[common],
        help="ask a running server for the label of an image",
        description="Ask a running server for the labels of image files, and print their nearest neighbours.",
    )
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="an image file, PNG or JPEG for example")
    predict.add_argument(
        "--polarity", choices=POLARITIES, help="what the image is (default: what the model was trained on)"
    )
    predict.add_argument("--url", help="a server elsewhere, as http://host:port or with the model's whole path")
    predict.add_argument("--name", help="the model's name (default: the one that the pointer names)")
    predict.add_argument("--json", action="store_true", help="print the server's answer as it is")
    predict.set_defaults(run=commands.predict)
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no port: give 1 to 65535, or 0 for any free one")
    return port


if __name__ == "__main__":
    sys.exit(main())
