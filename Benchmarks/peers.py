#!/usr/bin/python3
"""What servers cost one another: real processes, TLS, loopback. A figure is printed beside its bar, and judged by nobody.

usage: peers.py [--directory DIR] line [--lines 1000] [--pause 0.025]
       peers.py [--directory DIR] once [--megabytes 100] [--seconds 20] [--reached 1,2]
       peers.py [--directory DIR] empty [--files 100000] [--bulk 2G] [--round-trip 0] [--plain]
       peers.py [--directory DIR] differences [--files 100000] [--records 20] [--differences 50] [--round-trip 0] [--plain]

line: a host reaches one of three servers. From write(2) of a line until each of the others has it durably and readable,
beside a bare append and fdatasync of as many bytes to the same file system, in turn. What is looked at is the plain file:
what is as small is written there only after the commit that made it durable (P2).
once: a host reaches so many of three servers and writes lines and whole files, half of the bytes each. What each server
received of payload, by its own counter, against the bytes that there are.
empty: a host that has journaled everything delivers it to a server, and is stopped; then an empty server has it from that
one, then another empty one from both.
differences: two servers with equal files (of `build-holdings`) meet for the first time, while one has so many files more;
the link is cut, that one gets so many more again, and they meet with a cursor. Bytes on the wire are counted on the way.

`empty` and `differences` lie on an ext4 image of their own (this needs root), whose syncs cost more than a disk's; --plain:
not so, for a directory on a tmpfs, where syncs cost nothing.

--round-trip, in milliseconds: every connection goes through a link that delays each direction by half of it. The kernel's
netem would delay TCP's own answers as well, and needs to be there; here at most 4 MiB are on their way.
"""

import argparse
import contextlib
import os
import random
import signal
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "Tests", "EndToEnd"))
from harness import Failure, Fleet, compare_with_truth, fleet_on_image, free_port, settle, start, strings, wait_for  # noqa: E402
from holdings import build, wait_linked  # noqa: E402
from idle_host import cpu_seconds  # noqa: E402
from link import links  # noqa: E402

SERVERS = ["logs-a", "logs-b", "logs-c"]
MIB = 1 << 20
# The peer's cursor is written within that time.
CURSOR_SECONDS = 12


def say(text):
    print(text, flush=True)


def size(text):
    units = {"K": 1 << 10, "M": MIB, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def p50_and_p99(seconds):
    return f"p50 {1000 * statistics.median(seconds):.2f} ms, p99 {1000 * percentile(seconds, 0.99):.2f} ms"


def used_by(nodes):
    return sum(cpu_seconds(node.process.pid) for node in nodes)


def wait_connected(*servers):
    wait_for(
        lambda: all(peer["connected"] for server in servers for peer in server.status()["peers"]), "all are connected", 60)


def fleet_for(options, size, inodes):
    return Fleet() if options.plain else fleet_on_image(size, inodes)


# A line


class Tail:
    """A file's plain file on a server, as it grows."""

    def __init__(self, fleet, server, host, path):
        top = os.path.join(fleet.logs(server), "files", host, os.path.dirname(path).lstrip("/"))
        prefix = os.path.basename(path) + "@"

        def made():
            with contextlib.suppress(FileNotFoundError):
                return next((os.path.join(top, name) for name in os.listdir(top) if name.startswith(prefix)), None)

        self.descriptor = os.open(wait_for(made, f"{server} has {path}"), os.O_RDONLY)

    def length(self):
        return os.fstat(self.descriptor).st_size

    def expect(self, text, end):
        if os.pread(self.descriptor, len(text), end - len(text)) != text:
            raise Failure(f"other bytes before {end}")


def run_line(options):
    with Fleet() as fleet:
        servers = fleet.servers(*SERVERS)
        logs = fleet.path("log")
        os.makedirs(logs)
        path = os.path.join(logs, "line.log")
        host = fleet.host("web1", [f"{logs}/*.log"], SERVERS[:1])
        start(*servers, host)
        wait_connected(*servers)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        log, bare = os.open(path, flags), os.open(fleet.path("bare"), flags)
        os.write(log, b"first\n")
        written = len("first\n")
        tails = {name: Tail(fleet, name, "web1", path) for name in SERVERS}
        wait_for(lambda: all(tail.length() == written for tail in tails.values()), "the first line is everywhere")
        found, syncs = {name: [] for name in SERVERS}, []
        for number in range(options.lines):
            text = b"line %d of the run, as long as lines of a log are, most of them, say, by and large\n" % number
            began = time.perf_counter()
            os.write(log, text)
            written += len(text)
            missing = dict(tails)
            while missing:
                for name, tail in list(missing.items()):
                    if tail.length() >= written:
                        found[name].append(time.perf_counter() - began)
                        missing.pop(name).expect(text, written)
                if time.perf_counter() - began > 30:
                    raise Failure(f"line {number} isn't on {sorted(missing)}")
                time.sleep(0.0002)
            begun = time.perf_counter()
            os.write(bare, text)
            os.fdatasync(bare)
            syncs.append(time.perf_counter() - begun)
            time.sleep(max(0.0, options.pause - (time.perf_counter() - began)))
        say(f"{options.lines} lines, one each {1000 * options.pause:g} ms; a bare append and fdatasync: {p50_and_p99(syncs)}")
        for name, seconds in found.items():
            times = statistics.median(seconds) / statistics.median(syncs)
            whose = "its host's server" if name == SERVERS[0] else "a peer, bar 15"
            say(f"{name} ({whose}): {p50_and_p99(seconds)}; p50 is {times:.1f} bare appends")


# Once


def write_lines_and_files(logs, total, seconds):
    """Half in lines of 20 files, half in files that are renamed into place."""
    chance = random.Random(1)
    lines = [open(f"{logs}/lines-{number}.log", "ab", buffering=0) for number in range(20)]
    waiting = os.path.join(logs, "waiting")
    begun, written, whole = time.monotonic(), 0, 0
    while written < total:
        share = min(1.0, (time.monotonic() - begun) / seconds)
        while written < share * total:
            if whole < written / 2:
                count = min(int(2 ** chance.uniform(8, 23)), total - written)
                with open(waiting, "wb") as file:
                    file.write(chance.randbytes(count))
                os.rename(waiting, f"{logs}/whole-{written}.log")
                whole += count
            else:
                count = chance.randrange(60, 260)
                chance.choice(lines).write(chance.randbytes(count // 2).hex().encode()[: count - 1] + b"\n")
            written += count
        time.sleep(0.005)
    for file in lines:
        file.close()


def run_once(options):
    for reached in options.reached.split(","):
        with Fleet() as fleet:
            servers = fleet.servers(*SERVERS)
            logs = fleet.path("log")
            os.makedirs(logs)
            host = fleet.host("web1", [f"{logs}/*.log"], SERVERS[: int(reached)])
            start(*servers, host)
            wait_connected(*servers)
            write_lines_and_files(logs, options.megabytes * MIB, options.seconds)
            settle(host, 300)
            for server in servers:
                settle(server, 300)
            paths = {name: os.path.join(logs, name) for name in os.listdir(logs)}
            for name in SERVERS:
                unique = compare_with_truth(fleet, name, "web1", paths)
            say(f"the host reaches {reached} of 3 servers: {unique / MIB:.1f} MiB in {len(paths)} files")
            for server in servers:
                received = server.status()["receivedBytes"]
                say(f"{server.name}: received {received - unique:+} bytes more, {received / unique:.5f} x (bar 1.001)")


# An empty server


def fill(top, files, bulk):
    for number in range(files):
        directory = os.path.join(top, f"{number // 1000:04}")
        if number % 1000 == 0:
            os.makedirs(directory)
        with open(os.path.join(directory, f"{number}.log"), "wb") as file:
            file.write(b"%01023d\n" % number)
    os.makedirs(os.path.join(top, "bulk"))
    chance = random.Random(1)
    part = 256 * MIB
    for begin in range(0, bulk, part):
        with open(os.path.join(top, "bulk", f"{begin}.log"), "wb") as file:
            for at in range(begin, min(bulk, begin + part), MIB):
                file.write(chance.randbytes(min(MIB, bulk - at)))
    return files + -(-bulk // part), files * 1024 + bulk


def holds(server, files, size):
    hosts = (server.status() or {"hosts": []})["hosts"]
    return sum(host["files"] for host in hosts) == files and sum(host["bytes"] for host in hosts) == size


def timed(text, begun, nodes, server, files, size):
    """Until the server holds all; `begun` is called when it has to be waited for."""
    used = used_by(nodes)
    begun = begun()
    wait_for(lambda: holds(server, files, size), f"{server.name} holds all", 3600, 0.2)
    seconds = time.monotonic() - begun
    used = used_by(nodes) - used
    say(f"{text}: {seconds:.1f} s, CPU of all processes {used:.1f} s")
    return seconds


def run_empty(options):
    room = 4 * (options.bulk + options.files * 16_384) + (4 << 30)
    with fleet_for(options, room, options.files * 8 + 100_000) as fleet:
        logs = fleet.path("log")
        files, total = fill(logs, options.files, options.bulk)
        fleet.ports.update({name: free_port() for name in SERVERS})
        front = links(fleet, SERVERS, options.round_trip) if options.round_trip else contextlib.nullcontext()
        with front:
            host = fleet.host("web1", [f"{logs}/*/*.log"], SERVERS[:1])
            a, b, c = (fleet.server(name, [peer for peer in SERVERS if peer != name]) for name in SERVERS)
            begun = time.monotonic()
            start(host)
            wait_for(
                lambda: (status := host.status()) and status["files"]["followed"] == files
                and status["servers"][0]["lagBytes"] == total, "all is journaled", 3600, 0.5)
            say(f"{options.files} files of 1 KiB and {options.bulk / MIB:.0f} MiB of bulk, round trip "
                f"{options.round_trip:g} ms; journaled by the host alone: {time.monotonic() - begun:.1f} s")
            start(a)

            def connected():
                wait_for(lambda: any(host["connected"] for host in a.status()["hosts"]), "the host is connected", 60, 0.01)
                return time.monotonic()

            alone = timed("the host delivers it to an empty server", connected, [host, a], a, files, total)
            settle(host)
            host.stop(60)
            for server, suppliers in ((b, [a]), (c, [a, b])):
                begun = time.monotonic()
                start(server)
                names = " and ".join(node.name for node in suppliers)
                seconds = timed(f"{server.name}, empty, from {names}", lambda: begun, [*suppliers, server], server, files, total)
                wait_for(
                    lambda: all(peer["equal"] for peer in server.status()["peers"] if peer["name"] in names), "equal", 600, 0.2)
                say(f"it calls them equal after {time.monotonic() - begun:.1f} s, has received "
                    f"{server.status()['receivedBytes'] / total:.5f} x the payload; {seconds / alone:.2f} x the host's time (bar 1.3)")
            for server in (a, b, c):
                settle(server, 60)
            expect_equal(fleet, SERVERS, files)


def expect_equal(fleet, names, files):
    found = [strings(fleet, name) for name in names]
    if len(found[0]) != files or any(other != found[0] for other in found[1:]):
        raise Failure(f"{names} hold {[len(one) for one in found]} files of {files}, or others")


# Differences


def deliver(fleet, name, server, count):
    """So many new files of a host that knows this server only."""
    logs = fleet.path("log", name)
    os.makedirs(logs)
    for number in range(count):
        with open(f"{logs}/{number}.log", "w") as log:
            log.write(f"{number:099}\n")
    host = fleet.host(name, [f"{logs}/*.log"], [server])
    start(host)
    settle(host, 60)
    host.stop()


def meet(text, fronts, servers):
    for link in fronts.values():
        link.mend()
    used = used_by(servers)
    for server in servers:
        settle(server, 600)
    end = time.monotonic()
    used = used_by(servers) - used
    begun = min(link.met for link in fronts.values() if link.met)
    crossed = sum(link.bytes for link in fronts.values())
    say(f"{text}: {crossed:,} bytes on the wire, settled {end - begun:.2f} s after they were connected, CPU of both {used:.1f} s")


def run_differences(options):
    names = SERVERS[:2]
    room = 2 * options.files * (8_192 + 1_024 * options.records) + (2 << 30)
    with fleet_for(options, room, options.files * 6 + 100_000) as fleet:
        fleet.ports.update({name: free_port() for name in names})
        with links(fleet, names, options.round_trip) as fronts:
            for link in fronts.values():
                link.cut()
            a, b = (fleet.server(name, [peer for peer in names if peer != name]) for name in names)
            fleet.fronts = {}
            for server in (a, b):
                start(server)
                server.stop()
                build(fleet, server, options.files, options.records)
            start(a, b)
            for server in (a, b):
                wait_linked(fleet, server, options.files)
            count = options.differences
            say(f"{options.files} equal files, {options.files * options.records} records; {count} files more on {a.name}, 100 "
                f"bytes each, of a host of their own; round trip {options.round_trip:g} ms")
            deliver(fleet, "web2", a.name, count)
            # A store that was just built has no trie; one that a server kept has.
            wait_for(lambda: all(server.status()["digest"] for server in (a, b)), "both have their digests", 600, 0.5)
            meet("first meeting", fronts, (a, b))
            time.sleep(CURSOR_SECONDS)
            for link in fronts.values():
                link.cut()
            wait_for(lambda: not any(server.status()["peers"][0]["connected"] for server in (a, b)), "the link is cut")
            deliver(fleet, "web3", a.name, count)
            meet("with a cursor", fronts, (a, b))
            expect_equal(fleet, names, options.files + 2 * count)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", help="file system to use (default: the temporary directory's)")
    commands = parser.add_subparsers(required=True)

    def command(name, run):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        return command.add_argument

    add = command("line", run_line)
    add("--lines", type=int, default=1000)
    add("--pause", type=float, default=0.025)
    add = command("once", run_once)
    add("--megabytes", type=int, default=100)
    add("--seconds", type=float, default=20)
    add("--reached", default="1,2")
    add = command("empty", run_empty)
    add("--files", type=int, default=100_000)
    add("--bulk", type=size, default="2G")
    add("--round-trip", type=float, default=0)
    add("--plain", action="store_true")
    add = command("differences", run_differences)
    add("--files", type=int, default=100_000)
    add("--records", type=int, default=20)
    add("--differences", type=int, default=50)
    add("--round-trip", type=float, default=0)
    add("--plain", action="store_true")
    options = parser.parse_args()
    if options.directory:
        os.environ["NIMBUS_TEST_DIR"] = options.directory
    # What was started is ended, and what was mounted is unmounted, also when this is told to end.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    options.run(options)


if __name__ == "__main__":
    main()
