#!/usr/bin/python3
"""What a host costs that follows many files in which nothing happens (K6).

usage: idle_host.py [--files 100000] [--names 0] [--intervals 3] [--directory DIR]

The files (100 bytes each, 1,000 in a directory) lie on an ext4 image of their own (this needs root), with `--names` more in
each directory that no pattern finds. Printed: memory and CPU of the host alone, over whole intervals of
its regular scan, when all had been delivered; then the time from a start to settled, with the server up.
With `--trace` the calls of one interval are counted by strace.
"""

import argparse
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "Tests", "EndToEnd"))
from harness import Failure, Fleet, mount_image  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
RESCAN_SECONDS = 60
FILES_A_DIRECTORY = 1_000


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def megabytes(pid, name):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":")) / 1024


def mount(fleet, count):
    """An ext4 image that has room for so many small files."""
    return mount_image(fleet.path("image"), fleet.path("files"), max(256 << 20, count * 12_000), count * 2 + 10_000)


def fill(point, count, others):
    for number in range(count):
        directory = os.path.join(point, f"{number // FILES_A_DIRECTORY:04}")
        if number % FILES_A_DIRECTORY == 0:
            os.makedirs(directory)
            for other in range(others):
                open(os.path.join(directory, f"{other}.other"), "w").close()
        with open(os.path.join(directory, f"service-{number}.log"), "w") as file:
            file.write(f"{number:099}\n")


def settle(host, limit=600):
    done = host.settled(limit)
    if done.returncode != 0:
        raise Failure(f"not settled: {done.stdout}{done.stderr}")


def calls(pid, seconds):
    """What strace counts of the process's calls."""
    trace = subprocess.run(
        ["timeout", "-s", "INT", str(seconds), "strace", "-f", "-c", "-S", "calls", "-p", str(pid)],
        capture_output=True, text=True, check=False)
    return "\n".join(trace.stderr.splitlines()[:24])


def measure(fleet, arguments):
    point = mount(fleet, arguments.files + arguments.names * (arguments.files // FILES_A_DIRECTORY + 1))
    try:
        fill(point, arguments.files, arguments.names)
        server = fleet.server("s1").start()
        server.wait_ready()
        host = fleet.host("web1", [point + "/*/*.log"], ["s1"])
        begun = time.monotonic()
        host.start().wait_ready(120)
        settle(host)
        print(f"first delivery: {time.monotonic() - begun:.1f} s")
        report(host, arguments)
        host.stop(60)
        begun = time.monotonic()
        host.start().wait_ready(120)
        ready = time.monotonic() - begun
        settle(host)
        print(f"restart: answers after {ready:.1f} s, settled after {time.monotonic() - begun:.1f} s")
        report(host, arguments)
    finally:
        for node in fleet.nodes.values():
            node.kill()
        subprocess.run(["umount", point], check=True)


def report(host, arguments):
    pid = host.process.pid
    # The first regular scan still makes sure of what it finds.
    time.sleep(RESCAN_SECONDS + 5)
    begun, used = time.monotonic(), cpu_seconds(pid)
    time.sleep(arguments.intervals * RESCAN_SECONDS)
    share = (cpu_seconds(pid) - used) / (time.monotonic() - begun)
    print(f"RssAnon {megabytes(pid, 'RssAnon'):.0f} MB, RssFile {megabytes(pid, 'RssFile'):.0f} MB, "
          f"CPU {100 * share:.2f} % of a core over {arguments.intervals} intervals", flush=True)
    if arguments.trace:
        print(calls(pid, RESCAN_SECONDS + 2), flush=True)


def run(measure, arguments):
    if arguments.directory:
        os.environ["NIMBUS_TEST_DIR"] = arguments.directory
    with Fleet() as fleet:
        measure(fleet, arguments)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--names", type=int, default=0)
    parser.add_argument("--intervals", type=int, default=3)
    parser.add_argument("--directory")
    parser.add_argument("--trace", action="store_true")
    arguments = parser.parse_args()
    run(measure, arguments)


if __name__ == "__main__":
    main()
