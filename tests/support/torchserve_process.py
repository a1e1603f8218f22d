"""The processes of a running server and the addresses that they listen on."""

import psutil

from serving.server import Server


def processes(server: Server) -> list[psutil.Process]:
    """Java, then its workers."""
    java = psutil.Process(server.torchserve.process)
    return [java, *java.children(recursive=True)]


def listening(server: Server) -> set[tuple[str, int]]:
    """The IP addresses and TCP ports that Java listens on."""
    connections = processes(server)[0].net_connections()
    addresses = [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]
    return {(address.ip.removeprefix("::ffff:"), address.port) for address in addresses}
