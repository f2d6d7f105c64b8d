"""G3, D10: a file system whose daemon stopped, and a name server that swallows, delay nothing else.

usage: test_hung.py [--rounds 5] [--lines 60] [--files 50]

Follows `--files` files on a FUSE file system beside one ordinary log. In each round the time from write to readable of
the ordinary log's lines is measured first with that file system alive, then with its daemon stopped (SIGSTOP) while all
of its files have grown; 'not worse beyond the spread' compares the medians of the p99 with the range of the rounds. Then:
status names what hangs, `--settled` doesn't succeed and names it, SIGTERM ends the node within 5 s, a node starts beside
it, and after SIGCONT everything is delivered exactly once.
"""

import argparse
import contextlib
import ctypes
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time

from harness import Failure, Fleet, compare_with_truth, wait_for


class Mount:
    """A FUSE file system of our own that can hang."""

    def __init__(self, fleet, name):
        self.source, self.point = fleet.path(name, "source"), fleet.path(name, "mount")
        os.makedirs(self.source)
        os.makedirs(self.point)
        self.log = open(fleet.path(name, "log"), "wb")
        mirror = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mirror.py")
        self.daemon = subprocess.Popen(
            [sys.executable, mirror, self.source, self.point], stdout=self.log, stderr=self.log
        )
        wait_for(lambda: os.path.ismount(self.point), "the file system is mounted", 20)

    def __enter__(self):
        return self

    def hang(self):
        self.daemon.send_signal(signal.SIGSTOP)

    def heal(self):
        self.daemon.send_signal(signal.SIGCONT)

    def __exit__(self, kind, value, trace):
        self.heal()
        # Lazily: a node that hangs may have files open.
        ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(self.point), 2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.daemon.wait(10)
        if self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        self.log.close()


class Lines:
    """A log that gets lines, and how long each takes to be readable on the server."""

    def __init__(self, path, top):
        self.file = open(path, "ab", buffering=0)
        self.prefix = os.path.basename(path) + "@"
        self.top = os.path.join(top, os.path.dirname(path).lstrip("/"))
        self.written = os.path.getsize(path)
        self.number = 0

    def arrived(self):
        try:
            return sum(e.stat().st_size for e in os.scandir(self.top) if e.name.startswith(self.prefix))
        except FileNotFoundError:
            return 0

    def write(self, limit=30):
        line = b"line %d of the run\n" % self.number
        self.number += 1
        self.written += len(line)
        start = time.perf_counter()
        self.file.write(line)
        wait_for(lambda: self.arrived() >= self.written, "a line of the ordinary log arrives", limit, pause=0.0005)
        return (time.perf_counter() - start) * 1000

    def p99(self, count):
        taken = []
        for _ in range(count):
            start = time.perf_counter()
            taken.append(self.write())
            # A line every 20 ms: a load that J3 doesn't coalesce.
            time.sleep(max(0, 0.02 - (time.perf_counter() - start)))
        return sorted(taken)[int(len(taken) * 0.99)], max(taken)


def expect(condition, what):
    if not condition:
        raise Failure(what)


def grow(mount, count, text):
    for number in range(count):
        with open(os.path.join(mount.source, f"{number}.log"), "a") as file:
            file.write(text)


def hang_while_read(mount, count):
    """The daemon stops while the node is reading: of the requests that it has taken no signal frees a process."""
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        grow(mount, count, "more\n")
    mount.hang()


def ended_in_time(node, limit=5.0):
    begin = time.monotonic()
    node.stop(limit=30)
    took = time.monotonic() - begin
    expect(took < limit, f"SIGTERM took {took:.1f} s")
    return took


def hung_file_system(rounds, lines, files):
    with Fleet() as fleet, Mount(fleet, "remote") as mount:
        logs = fleet.path("log")
        os.makedirs(logs)
        grow(mount, files, "first\n")
        ordinary = os.path.join(logs, "ordinary.log")
        with open(ordinary, "w") as file:
            file.write("begin\n")
        server = fleet.server("logs-a")
        host = fleet.host("web1", [f"{logs}/*.log", f"{mount.point}/*.log"], ["logs-a"])
        server.start().wait_ready()
        host.start().wait_ready()
        expect(host.settled(60).returncode == 0, "the start doesn't settle")
        log = Lines(ordinary, os.path.join(fleet.logs("logs-a"), "files", "web1"))
        log.p99(20)
        results = {"alive": [], "hung": []}
        for _ in range(rounds):
            results["alive"].append(log.p99(lines))
            hang_while_read(mount, files)
            results["hung"].append(log.p99(lines))
            status = wait_for(lambda: host.status()["hanging"] and host.status(), "status says what hangs", 15)
            expect(status["hanging"][0]["what"] == mount.point, f"status names {status['hanging']}")
            expect(not status["settled"], "status says settled while a file system hangs")
            expect(any(mount.point in alarm for alarm in status["alarms"]), "no alarm names the file system")
            # Also when it has been called hung.
            log.write(limit=5)
            mount.heal()
            expect(host.settled(60).returncode == 0, "doesn't settle after the file system answers again")
            wait_for(lambda: not host.status()["hanging"], "status says no more that something hangs", 10)
        hang_while_read(mount, files)
        log.write()
        done = host.settled(8)
        expect(done.returncode == 3, f"--settled ends with {done.returncode} over a hung file system")
        expect(mount.point in done.stdout + done.stderr, f"--settled doesn't name it: {done.stdout}{done.stderr}")
        took = ended_in_time(host)
        host.start().wait_ready()
        with open(os.path.join(logs, "later.log"), "w") as file:
            file.write("a node starts beside a file system that hangs\n")
        later = Lines(os.path.join(logs, "later.log"), log.top[: -len(logs)])
        wait_for(lambda: later.arrived() == later.written, "a new log arrives", 20)
        took = max(took, ended_in_time(host))
        mount.heal()
        host.start().wait_ready()
        done = host.settled(120)
        expect(done.returncode == 0, f"doesn't settle at the end: {done.stdout}{done.stderr}")
        truth = {name: os.path.join(logs, name) for name in os.listdir(logs)}
        truth |= {f"remote {name}": os.path.join(mount.source, name) for name in os.listdir(mount.source)}
        compare_with_truth(fleet, "logs-a", "web1", truth)
        host.stop()
        server.stop()
        return results, took


class Swallower:
    """A name server that takes questions and answers none."""

    def __init__(self, address):
        self.address = address
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.socket.close()


def swallowing_name_server(lines):
    address = f"127.0.{os.getpid() % 250 + 1}.{os.getpid() // 250 % 250 + 2}"
    with Fleet() as fleet, Swallower(address):
        logs = fleet.path("log")
        os.makedirs(logs)
        ordinary = os.path.join(logs, "ordinary.log")
        with open(ordinary, "w") as file:
            file.write("begin\n")
        for name, text in {"resolv.conf": f"nameserver {address}\n", "nsswitch.conf": "hosts: dns\n"}.items():
            with open(fleet.path(name), "w") as file:
                file.write(text)
        server, lost = fleet.server("logs-a"), fleet.server("logs-b")
        host = fleet.host("web1", [f"{logs}/*.log"], ["logs-a", "logs-b"])
        with open(host.config) as file:
            text = file.read()
        with open(host.config, "w") as file:
            file.write(re.sub(r"(logs-b, address: \")[^:]*", r"\g<1>logs-b.swallowed.invalid", text))
        # Both files as this node alone sees them.
        script = (
            f"for f in resolv.conf nsswitch.conf; do mount --bind {fleet.dir}/$f $(readlink -f /etc/$f) || exit 9; done; "
            'exec "$0" "$@"'
        )
        server.start().wait_ready()
        host.start(prefix=["unshare", "--mount", "sh", "-c", script]).wait_ready()
        log = Lines(ordinary, os.path.join(fleet.logs("logs-a"), "files", "web1"))
        worst = log.p99(lines)

        def error():
            return {s["name"]: s["lastError"] for s in host.status()["servers"]}["logs-b"]

        wait_for(lambda: "name server" in (error() or ""), "status says that no name server answers", 20)
        took = ended_in_time(host)
        server.stop()
        return worst, took


def can_mount():
    return os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=60)
    parser.add_argument("--files", type=int, default=50)
    chosen = parser.parse_args()
    if not can_mount():
        return print("skipped: /dev/fuse can't be used here, or not by this user")
    results, took = hung_file_system(chosen.rounds, chosen.lines, chosen.files)
    for name, rows in results.items():
        p99 = [row[0] for row in rows]
        print(
            f"{name}: p99 of lines of another log {statistics.median(p99):.1f} ms ({min(p99):.1f} to {max(p99):.1f}), "
            f"greatest {max(row[1] for row in rows):.1f} ms"
        )
    print(f"SIGTERM beside the hung file system: {took:.2f} s at most")
    alive, hung = ([row[0] for row in results[name]] for name in ("alive", "hung"))
    # A few rounds show little of the spread: then only what nobody could call spread counts.
    spread = max(max(alive) - min(alive), 0 if chosen.rounds >= 5 else 100)
    if statistics.median(hung) > max(alive) + spread:
        raise Failure("other logs are slower beside a hung file system, beyond the spread")
    worst, took = swallowing_name_server(chosen.lines)
    print(f"beside a name server that swallows: p99 {worst[0]:.1f} ms, greatest {worst[1]:.1f} ms, SIGTERM {took:.2f} s")


if __name__ == "__main__":
    main()
