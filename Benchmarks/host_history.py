#!/usr/bin/python3
"""What a host costs that has seen many files come and go, and follows few (K1).

usage: host_history.py [--history 1000000] [--files 1000] [--rest 60] [--directory DIR]

The living files (100 bytes each) lie on an ext4 image of their own (this needs root) and are delivered first; then
`build-history` adds the rows of the others to the stopped host's store. Printed before and after: the time from a start to
the first answer and to settled, with the server up, and memory --rest seconds later; then the same of 1,000 files that
come, are delivered and are moved away.
"""

import argparse
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from idle_host import fill, megabytes, mount, run, settle  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILDER = os.environ.get("NIMBUS_BUILDER", os.path.join(ROOT, ".build", "release", "build-history"))


def restart(host, rest, name):
    begun = time.monotonic()
    host.start().wait_ready(120)
    ready = time.monotonic() - begun
    settle(host)
    settled = time.monotonic() - begun
    time.sleep(rest)
    pid = host.process.pid
    print(f"{name}: answers after {ready * 1000:.0f} ms, settled after {settled * 1000:.0f} ms, {rest} s later "
          f"RssAnon {megabytes(pid, 'RssAnon'):.1f} MB, RssFile {megabytes(pid, 'RssFile'):.1f} MB", flush=True)


def come_and_go(host, point, rest):
    """As many files again come, are delivered, and are moved to where nobody looks."""
    away = os.path.join(point, "away")
    os.makedirs(away)
    begun = time.monotonic()
    names = [f"passing-{number}.log" for number in range(1_000)]
    for name in names:
        with open(os.path.join(point, "0000", name), "w") as file:
            file.write("x" * 100)
    settle(host)
    delivered = time.monotonic()
    for name in names:
        os.rename(os.path.join(point, "0000", name), os.path.join(away, name))
    settle(host)
    print(f"1,000 more came, delivered after {delivered - begun:.1f} s, and went, settled after "
          f"{time.monotonic() - delivered:.1f} s")
    time.sleep(rest)
    print(f"{rest} s later RssAnon {megabytes(host.process.pid, 'RssAnon'):.1f} MB", flush=True)


def measure(fleet, arguments):
    point = mount(fleet, arguments.files + 4_000)
    try:
        fill(point, arguments.files, 0)
        fleet.server("s1").start().wait_ready()
        host = fleet.host("web1", [point + "/0*/*.log"], ["s1"])
        host.start().wait_ready(120)
        settle(host)
        host.stop(60)
        restart(host, arguments.rest, "without a history")
        host.stop(60)
        begun = time.monotonic()
        store = fleet.path("web1", "data", "journal")
        subprocess.run([BUILDER, "--store", store, "--files", str(arguments.history), "--servers", "s1"], check=True)
        size = os.path.getsize(os.path.join(store, "data.mdb")) / 1_000_000
        print(f"built: {arguments.history} files, {size:.0f} MB, {time.monotonic() - begun:.0f} s", flush=True)
        restart(host, arguments.rest, "first start after it")
        host.stop(60)
        restart(host, arguments.rest, "with the history")
        come_and_go(host, point, arguments.rest)
    finally:
        for node in fleet.nodes.values():
            node.kill()
        subprocess.run(["umount", point], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=1_000)
    parser.add_argument("--rest", type=int, default=60)
    parser.add_argument("--directory")
    arguments = parser.parse_args()
    run(measure, arguments)


if __name__ == "__main__":
    main()
