#!/usr/bin/python3
"""What a server costs that holds many small files: start to serving, memory at rest, status, a scrape of /metrics.

usage: holdings.py [--files 100000] [--records 20] [--queries 10000] [--rest 60] [--directory DIR] [--keep]

Builds the store and every plain file itself (`build-holdings`), in --directory, which should be a file system that may be
thrown away: removing the files one by one takes long. Memory is RssAnon, RssFile is printed beside it (LMDB's map). At
rest is --rest seconds after so many random resume queries. Times are of a cold process with a warm page cache.
"""

import argparse
import os
import random
import statistics
import struct
import subprocess
import sys
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "Tests", "EndToEnd"))
from harness import Failure, Fleet, free_port, wait_for  # noqa: E402
from peer import Peer  # noqa: E402

BUILDER = os.environ.get("NIMBUS_BUILDER", os.path.join(ROOT, ".build", "release", "build-holdings"))
HOST = "web1"
PAGE = 1_000


def memory(pid):
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return {name: int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}


def file_uuid(number):
    """As `build-holdings` names them: UUIDv8 of a scattered number and the number."""
    high = number * 0x9E37_79B9_7F4A_7C15 & 0xFFFF_FFFF_FFFF_FFFF
    high = high & ~0xF000 | 0x8000
    return struct.pack(">QQ", high, number & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000)


def greeted(fleet, server):
    """A connection that the server answered, or None while it doesn't serve."""
    try:
        peer = Peer(fleet, server.name, HOST)
        peer.hello()
        return peer
    except OSError:
        return None


def start(fleet, server):
    begin = time.monotonic()
    server.start()
    wait_for(lambda: greeted(fleet, server), "the server serves", limit=300, pause=0.005).close()
    return time.monotonic() - begin


def build(fleet, server, files, records):
    """The store and the plain files of a server that was started once, and is stopped."""
    subprocess.run(
        [BUILDER, "--store", fleet.path(server.name, "data", "holdings"), "--root", fleet.logs(server.name),
         "--host", HOST, "--files", str(files), "--records", str(records)],
        check=True,
    )


def wait_linked(fleet, server, files):
    """Until the first start after `build` has compared all plain files, and made all links, in the background."""
    links = os.path.join(fleet.logs(server.name), "latest", HOST, "var", "log", "app")
    wait_for(
        lambda: os.path.isdir(links) and sum(len(os.listdir(os.path.join(links, name))) for name in os.listdir(links))
        == files, "all links", limit=3600, pause=0.5)


def timed(action, rounds=7):
    times = []
    for _ in range(rounds):
        begin = time.monotonic()
        action()
        times.append(time.monotonic() - begin)
    return statistics.median(times) * 1000


def ask(fleet, server, files, queries):
    """Random resume queries, a page at a time; returns how many files were held."""
    peer = greeted(fleet, server)
    held = 0
    for begin in range(0, queries, PAGE):
        page = [file_uuid(random.randrange(files)) for _ in range(min(PAGE, queries - begin))]
        peer.send("resumeQuery", struct.pack(">I", len(page)) + b"".join(page))
        _, body = peer.expect("resumeAnswer", limit=60)
        at = 4
        for _ in page:
            strings = struct.unpack(">I", body[at + 16 : at + 20])[0]
            held += strings > 0
            at += 20 + 40 * strings
    peer.close()
    return held


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--records", type=int, default=20)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--rest", type=int, default=60)
    parser.add_argument("--directory")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    random.seed(1)
    if options.directory:
        os.environ["NIMBUS_TEST_DIR"] = options.directory
    with Fleet(keep=options.keep) as fleet:
        fleet.issue(HOST, "host")
        server = fleet.server("logs-a")
        metrics = free_port()
        with open(server.config, "a") as config:
            config.write(f"status: {{ listen: 127.0.0.1:{metrics} }}\n")
        empty = start(fleet, server)
        print(f"empty: start {empty * 1000:.0f} ms, RssAnon {memory(server.process.pid)['RssAnon']:.1f} MB")
        server.stop()
        begin = time.monotonic()
        build(fleet, server, options.files, options.records)
        print(f"built: {options.files} files, {options.files * options.records} records, {time.monotonic() - begin:.0f} s")
        print(f"first start: {start(fleet, server) * 1000:.0f} ms")
        begin = time.monotonic()
        wait_linked(fleet, server, options.files)
        print(f"all plain files compared, all links made, in the background: {time.monotonic() - begin:.0f} s")
        server.stop()
        seconds = start(fleet, server)
        pid = server.process.pid
        print(f"start to serving: {seconds * 1000:.0f} ms")
        held = ask(fleet, server, options.files, options.queries) if options.queries else 0
        if held != options.queries:
            raise Failure(f"{held} of {options.queries} files are held")
        sizes = memory(pid)
        print(f"memory at once after {options.queries} resume queries: RssAnon {sizes['RssAnon']:.1f} MB")
        time.sleep(options.rest)
        sizes = memory(pid)
        print(f"memory {options.rest} s later: RssAnon {sizes['RssAnon']:.1f} MB, RssFile {sizes['RssFile']:.1f} MB")
        print(f"status: {timed(lambda: fleet.run('status', '--config', server.config, '--json')):.1f} ms with its process")
        page = f"http://127.0.0.1:{metrics}/metrics"
        print(f"metrics: {timed(lambda: urllib.request.urlopen(page).read()):.1f} ms")
        begin = time.monotonic()
        server.stop()
        print(f"stop: {(time.monotonic() - begin) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
