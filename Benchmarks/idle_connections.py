#!/usr/bin/python3
"""What connections cost a server on which nothing happens (row 5 of the scale's table).

usage: idle_connections.py [--connections 1000] [--seconds 30]

Each is a host of its own: mutual TLS, hello, a journal of one record, then only answers to pings. Printed: the server's
memory before, and after so many seconds of standing still.
"""

import argparse
import os
import resource
import selectors
import ssl
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "Tests", "EndToEnd"))
from harness import Failure, Fleet  # noqa: E402
from idle_host import cpu_seconds, megabytes  # noqa: E402
from peer import NAMES, Peer  # noqa: E402


def connect(fleet, name):
    fleet.issue(name, "host")
    peer = Peer(fleet, "logs-a", name)
    if peer.hello()[0] != "welcome":
        raise Failure(f"{name} isn't let in")
    peer.send_records([peer.opened()])
    if not peer.records_durable():
        raise Failure(f"{name}'s first record isn't taken")
    return peer


def stand_still(peers, seconds):
    """Answers pings, and nothing else."""
    with selectors.DefaultSelector() as selector:
        for peer in peers:
            selector.register(peer.socket, selectors.EVENT_READ, peer)
        end = time.monotonic() + seconds
        while True:
            for key, _ in selector.select(max(0, end - time.monotonic())):
                answer_pings(key.data)
            if time.monotonic() >= end:
                return


def answer_pings(peer):
    peer.socket.setblocking(False)
    try:
        while piece := peer.socket.recv(65_536):
            peer.buffer += piece
    except (ssl.SSLWantReadError, BlockingIOError):
        pass
    peer.socket.setblocking(True)
    while len(peer.buffer) >= 5:
        size, kind = struct.unpack(">IB", peer.buffer[:5])
        if len(peer.buffer) < 5 + size:
            return
        body, peer.buffer = peer.buffer[5 : 5 + size], peer.buffer[5 + size :]
        if NAMES[kind] == "ping":
            peer.send("pong", body)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=30)
    chosen = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with Fleet() as fleet:
        server = fleet.server("logs-a").start()
        server.wait_ready()
        pid = server.process.pid
        print(f"none: RssAnon {megabytes(pid, 'RssAnon'):.1f} MB", flush=True)
        peers = []
        for number in range(chosen.connections):
            peers.append(connect(fleet, f"host{number}"))
            if number % 20 == 0:
                stand_still(peers, 0)
        used = cpu_seconds(pid)
        stand_still(peers, chosen.seconds)
        share = (cpu_seconds(pid) - used) / chosen.seconds
        print(
            f"{len(peers)} connections that stand still: RssAnon {megabytes(pid, 'RssAnon'):.1f} MB, "
            f"RssFile {megabytes(pid, 'RssFile'):.1f} MB, CPU {100 * share:.2f} % of a core"
        )


if __name__ == "__main__":
    main()
