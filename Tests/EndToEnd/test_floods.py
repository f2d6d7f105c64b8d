"""P6, W4, G3: whoever floods a node costs the others nothing worth mention, costs it little memory, and is reported once.

usage: test_floods.py [--seconds 2] [--bytes 200000000] [--only NAME,NAME] [--show] [--counts] [--lengths 200000]

Prints a row for each flood: what was sent, how long another host's lines took from write to readable on the server (p50,
p99, greatest) beside a run without a flood, the attacked node's peak of anonymous memory, and the lines that its log has
about it. Each runs against nodes of its own, for a few seconds and within a bound of bytes, on loopback.

Ten million lengths: --only falling_lengths --lengths 10000000 --seconds 500 --bytes 2000000000. This script then wants
4 GiB of memory, and the node 4 GiB of disk (NIMBUS_TEST_DIR says where).

Fails where a row breaks a bound: more than one report (or none), memory, another host's greatest latency. Latencies mean
something on a quiet machine only: `--counts` prints them and leaves them unjudged.
"""

import argparse
import contextlib
import datetime
import itertools
import os
import resource
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

from harness import Failure, Fleet, Lines, Peak, free_port, percentile, wait_for
from peer import Closed, Peer, Script, TYPES, counted, frame, sha

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20


class Tree:
    """The root of a growing journal, in O(log n) a record."""

    def __init__(self):
        self.peaks = []

    def add(self, record):
        self.peaks.append((1, sha(b"\x00" + record)))
        while len(self.peaks) > 1 and self.peaks[-1][0] == self.peaks[-2][0]:
            (count, right), (_, left) = self.peaks.pop(), self.peaks.pop()
            self.peaks.append((2 * count, sha(b"\x01" + left + right)))

    def root(self):
        root = self.peaks[-1][1]
        for _, left in reversed(self.peaks[:-1]):
            root = sha(b"\x01" + left + root)
        return root


def in_frames(script, records, size):
    """A frame with a checkpoint for each `size` records."""
    tree = Tree()
    for record in script.records:
        tree.add(record)
    length = len(script.records)
    records = iter(records)
    while part := list(itertools.islice(records, size)):
        for record in part:
            tree.add(record)
        length += len(part)
        body = struct.pack(">QI", length - len(part), len(part)) + b"".join(map(counted, part))
        script.send("records", body + script.checkpoint(length, tree.root()))


def one_by_one(script, records):
    in_frames(script, records, 1)


class Rig:
    """A server and an honest host with a log, and whoever floods them."""

    def __init__(self, fleet, tool, chosen):
        self.fleet, self.tool, self.chosen = fleet, tool, chosen
        self.bytes = 0
        self.processes = []
        self.server = fleet.server("logs-a")
        with open(self.server.config, "a") as file:
            file.write("  credit: 96MiB\n")
        fleet.issue("bad", "host")
        self.servers = ["logs-a"]
        self.attacked = self.server

    def add_liar(self):
        """The attacked one is the host, which has one more server: one that lies."""
        self.fleet.issue("liar", "server")
        self.fleet.ports["liar"] = free_port()
        self.servers.append("liar")

    def start(self):
        self.lines = Lines(self.fleet, "logs-a", "web1")
        self.server.start().wait_ready()
        self.host = self.fleet.host("web1", [f"{self.lines.directory}/*.log"], self.servers).start()
        self.host.wait_ready()
        if "liar" in self.servers:
            self.attacked = self.host
        self.lines.write(30)
        self.log_start = os.path.getsize(self.attacked.log)

    def stop(self):
        self.lines.close()
        for process in self.processes:
            with contextlib.suppress(OSError):
                process.kill()
            process.wait()

    def wait_linked(self, host, count):
        """Until all the files that were born are made, named and linked: what a birth costs is another flood's matter."""
        top = os.path.join(self.fleet.logs("logs-a"), "latest", host)
        wait_for(lambda: os.path.isdir(top) and len(os.listdir(top)) >= count, f"{count} files of {host}", 60)

    def reports(self):
        """Of the attacked node, since the flood began."""
        return self.attacked.reports(self.log_start)

    def is_of_the_end(self, line):
        """A liar that leaves while a connection to it stands is another reason, which the host says too, and rightly."""
        if self.lie_ends is None or not any(text in line for text in ("without goodbye", "reset the connection")):
            return False
        said = datetime.datetime.fromisoformat(line.split(" ", 1)[0].replace("Z", "+00:00"))
        return said.timestamp() >= self.lie_ends

    def told(self):
        """What the attacked node says of all that it left out, when it stops."""
        seen = len(self.reports())
        self.attacked.stop()
        return self.reports()[seen:]

    # Floods

    def file(self, data):
        with tempfile.NamedTemporaryFile(dir=self.fleet.dir, delete=False) as file:
            file.write(data)
        return file.name

    def flood(self, prelude=b"", body=b"", chunk=0, options="", name="bad", processes=1, listen=False, keys=None):
        keys = keys or self.fleet.keys
        port = self.fleet.ports["liar" if listen else "logs-a"]
        files = [self.file(prelude), self.file(body)]
        for _ in range(processes):
            process = subprocess.Popen(
                [
                    self.tool, "listen" if listen else "connect", str(port), f"{keys}/{name}.crt", f"{keys}/{name}.key",
                    f"{keys}/ca.crt" if listen else f"{self.fleet.keys}/ca.crt", "logs-a", *files, str(chunk),
                    str(self.chosen.seconds), str(self.chosen.bytes // processes), options,
                ],
                stdout=subprocess.PIPE, text=True,
            )
            self.processes.append(process)
        return lambda: all(process.poll() is not None for process in self.processes)

    def welcome(self):
        return frame("welcome", struct.pack(">H", 1) + counted(b"liar") + struct.pack(">BBIQI", 0, 0, 0, 32 << 20, 0))

    def lie(self, body=b"", options="w", **more):
        self.lie_ends = time.time() + self.chosen.seconds
        return self.flood(self.welcome(), body, options=options, name="liar", listen=True, **more)

    def thread(self, body):
        """Runs `body(is_over)`, which returns the bytes that it sent, in a thread."""
        ends = time.monotonic() + self.chosen.seconds

        def run():
            with contextlib.suppress(OSError, Closed, TimeoutError):
                for sent in body(lambda: time.monotonic() >= ends):
                    self.bytes += sent

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return lambda: time.monotonic() >= ends and not thread.is_alive()


# MARK: Hosts against a server

PONGS = b"".join(frame("pong", struct.pack(">Q", number)) for number in range(20_000))
PINGS = b"".join(frame("ping", struct.pack(">Q", number)) for number in range(20_000))


def pongs(rig):
    return rig.flood(Script(rig.fleet, "bad").greet().take(), PONGS)


def pongs_coming_back(rig):
    return rig.flood(Script(rig.fleet, "bad").greet().take(), PONGS, options="r", processes=2)


def pings(rig):
    return rig.flood(Script(rig.fleet, "bad").greet().take(), PINGS)


def pings_never_reading(rig):
    return rig.flood(Script(rig.fleet, "bad").greet().take(), PINGS, options="n")


def key_updates(rig):
    return rig.flood(Script(rig.fleet, "bad").greet().take(), options="u")


def key_updates_coming_back(rig):
    return rig.flood(Script(rig.fleet, "bad").greet().take(), options="ur", processes=2)


def tiny_tls_records(rig):
    return rig.flood(Script(rig.fleet, "bad").greet().take(), PINGS, chunk=1)


def tiny_tls_records_of_payload(rig):
    """A frame of payload that never ends, a byte at a time."""
    script, file = Script(rig.fleet, "bad").greet(), os.urandom(16)
    data = b"x" * (4 << 20)
    script.send_records([script.opened(), script.born(file, b"/t.log"), script.appended(file, 0, data, data)])
    body = b"".join(frame("payload", file + struct.pack(">Q", at) + data[:262_144]) for at in range(0, 4 << 20, 262_144))
    return rig.flood(script.take(), body, chunk=1)


def tiny_payload_frames(rig):
    script, file = Script(rig.fleet, "bad").greet(), os.urandom(16)
    data = b"x" * (4 << 20)
    script.send_records([script.opened(), script.born(file, b"/t.log"), script.appended(file, 0, data, data)])
    for at in range(1_400_000):
        script.bytes += struct.pack(">IB16sQ", 25, TYPES["payload"], file, at) + b"x"
    return rig.flood(script.take())


def big_frames_before_hello(rig):
    """The greatest frame of all, but its last byte, on 400 connections of one certificate."""
    part = struct.pack(">IB", 2_580_004, TYPES["resumeAnswer"]) + b"\x00" * 2_580_000

    def run(is_over):
        held = []
        while len(held) < 400 and not is_over():
            with contextlib.suppress(OSError, Closed):
                peer = Peer(rig.fleet, "logs-a", "bad")
                held.append(peer)
                peer.socket.settimeout(0.5)
                peer.send_raw(part)
                yield len(part)
        while not is_over():
            time.sleep(0.05)
        for peer in held:
            peer.close()

    return rig.thread(run)


def silent_after_the_handshake(rig):
    def run(is_over):
        held = []
        while len(held) < 1_500 and not is_over():
            with contextlib.suppress(OSError, Closed):
                held.append(Peer(rig.fleet, "logs-a", "bad"))
                yield 3_000
        for peer in held:
            peer.close()

    return rig.thread(run)


def hellos_coming_back(rig):
    return rig.flood(Script(rig.fleet, "bad").greet().take(), options="ro", processes=3)


def resume_queries(rig):
    body = b"".join(frame("resumeQuery", struct.pack(">I", 1_000) + os.urandom(16_000)) for _ in range(16))
    return rig.flood(Script(rig.fleet, "bad").greet().take(), body)


def records_again(rig):
    script = Script(rig.fleet, "bad").greet()
    greeting = script.take()
    script.send_records([script.opened()])
    records = script.take()
    return rig.flood(greeting + records, records)


def small_records(rig):
    script, file = Script(rig.fleet, "bad").greet(), os.urandom(16)
    script.send_records([script.opened()])
    one_by_one(script, [script.appended(file, at, b"x", b"x") for at in range(8_000)])
    return rig.flood(script.take())


def payload_of_unknown_files(rig):
    script = Script(rig.fleet, "bad").greet()
    body = b"".join(frame("payload", os.urandom(16) + struct.pack(">Q", 0) + b"x") for _ in range(40_000))
    return rig.flood(script.take(), body)


def payload_of_one_refused_file(rig):
    script = Script(rig.fleet, "bad").greet()
    return rig.flood(script.take(), frame("payload", os.urandom(16) + struct.pack(">Q", 0) + b"x") * 20_000)


def payload_again(rig):
    """Bytes that are held already."""
    peer = Peer(rig.fleet, "logs-a", "bad")
    assert peer.hello()[0] == "welcome"
    file = peer.deliver(b"/held.log", b"x" * 1_000)
    peer.close()
    script = Script(rig.fleet, "bad")
    script.journal, script.key, script.public = peer.journal, peer.key, peer.public
    script.greet()
    script.send("resumeQuery", struct.pack(">I", 1) + file)
    return rig.flood(script.take(), frame("payload", file + struct.pack(">Q", 0) + b"x") * 20_000)


def garbage_coming_back(rig):
    return rig.flood(Script(rig.fleet, "bad").greet().take(), b"\xff" * 4_096, options="r", processes=2)


def slow_loris(rig):
    """Eight connections that send a great frame byte by byte."""

    def run(is_over):
        peers = []
        for _ in range(8):
            peer = Peer(rig.fleet, "logs-a", "bad")
            peer.hello()
            peer.send_raw(struct.pack(">IB", 1_000_000, TYPES["records"]))
            peers.append(peer)
        while not is_over():
            for peer in peers:
                peer.send_raw(b"\x00")
                yield 23
            time.sleep(0.1)

    return rig.thread(run)


def deep_births(rig):
    script = Script(rig.fleet, "bad").greet()
    script.send_records([script.opened()])
    tails = [b"".join(b"/%x" % (number % 16) for number in range(2_000)) + b"/%d" % file for file in range(100)]
    one_by_one(script, [script.born(os.urandom(16), b"/%d" % number + tail) for number, tail in enumerate(tails)])
    return rig.flood(script.take())


def large_records(rig):
    script = Script(rig.fleet, "bad").greet()
    script.send_records([script.opened()])
    one_by_one(script, [script.record(99, b"x" * 1_000_000) for _ in range(60)])
    return rig.flood(script.take())


def on_eight_connections(rig, records):
    """Each of a journal of its own; `records(script, number)` puts what it sends behind its first record."""
    scripts = [Script(rig.fleet, "bad").greet() for _ in range(8)]
    for number, script in enumerate(scripts):
        script.send_records([script.opened()])
        records(script, number)
    floods = [rig.flood(script.take()) for script in scripts]
    return lambda: all(over() for over in floods)


def many_births(rig):
    """65,536 files, 6 MiB of records: the whole window of each connection."""

    def births(script, number):
        in_frames(script, [script.born(os.urandom(16), b"/%d/%d.log" % (number, file)) for file in range(8_191)], 512)

    return on_eight_connections(rig, births)


def signed_lengths(rig, lengths):
    """One file's lengths, of which no byte ever comes, and now and then a record about one of many others: what is in
    memory of all of them leaves it, and is loaded again (K4)."""
    file, others = os.urandom(16), [os.urandom(16) for _ in range(9_000)]
    peer = Peer(rig.fleet, "logs-a", "bad")
    assert peer.hello()[0] == "welcome"
    births = [peer.opened()] + [peer.born(each, b"/%d.log" % number) for number, each in enumerate([file, *others])]
    for first in range(0, len(births), 512):
        peer.send_records(births[first : first + 512])
    assert peer.records_durable(30)
    peer.close()
    rig.wait_linked("bad", len(births) - 1)
    script = Script(rig.fleet, "bad")
    script.journal, script.key, script.public, script.records = peer.journal, peer.key, peer.public, peer.records
    script.greet()

    def records():
        for number, length in enumerate(lengths):
            yield script.record(3, file + struct.pack(">QQ", 0, length) + os.urandom(32))
            if number % 64 == 0:
                other = others[number // 64 % len(others)]
                # The same root each time that it is the file's turn: another one would be a conflict, and reported.
                yield script.record(3, other + struct.pack(">QQ", 0, 9) + other + other)

    in_frames(script, records(), 512)
    whole = script.take()
    rig.progress = lambda sent, took: f"{sent / len(whole):.0%} of {len(lengths):,} lengths in {took:.1f} s"
    return rig.flood(whole, options="x")


def falling_lengths(rig):
    return signed_lengths(rig, range(rig.chosen.lengths, 0, -1))


def growth_without_payload(rig):
    return signed_lengths(rig, range(100, 100 * rig.chosen.lengths, 100))


def roots_of_one_length(rig):
    return signed_lengths(rig, [100] * rig.chosen.lengths)


def large_records_on_eight_connections(rig):
    return on_eight_connections(
        rig, lambda script, _: one_by_one(script, [script.record(99, b"x" * 1_000_000) for _ in range(24)])
    )


# MARK: Strangers


def raw_sockets(rig, count, data, hold):
    """Connects again and again; `hold`: keeps at most `count` open, always."""

    def run(is_over):
        held = []
        try:
            while not is_over():
                with contextlib.suppress(OSError):
                    raw = socket.create_connection(("127.0.0.1", rig.fleet.ports["logs-a"]), timeout=1)
                    raw.setblocking(False)
                    held.append(raw)
                    if data:
                        raw.send(data)
                        yield len(data)
                    if not hold:
                        with contextlib.suppress(BlockingIOError):
                            while raw.recv(4096):
                                pass
                if len(held) >= count:
                    if hold:
                        time.sleep(0.001)
                    held.pop(0).close()
        finally:
            for raw in held:
                raw.close()

    return rig.thread(run)


def silent_sockets(rig):
    """4,200 that say nothing, always, and honest hosts that come while they are there."""
    rig.fleet.issue("web2", "host")
    address = ("127.0.0.1", rig.fleet.ports["logs-a"])
    held = []
    for _ in range(4_200):
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(address, timeout=1))
    failed = 0
    for _ in range(20):
        try:
            peer = Peer(rig.fleet, "logs-a", "web2")
            if peer.hello()[0] != "welcome":
                failed += 1
            peer.close()
        except (OSError, Closed, TimeoutError):
            failed += 1
    rig.note = f"{failed} of 20 honest connections failed"
    if failed:
        rig.failure = rig.note

    def run(is_over):
        # One that is closed is opened anew.
        while not is_over():
            held.pop(0).close()
            with contextlib.suppress(OSError):
                held.append(socket.create_connection(address, timeout=1))
            yield 0
        for raw in held:
            raw.close()

    return rig.thread(run)


def garbage(rig):
    return raw_sockets(rig, 200, os.urandom(2_000), hold=False)


def half_handshakes(rig):
    half = bytes.fromhex("16030102000100 01fc0303".replace(" ", "")) + os.urandom(100)
    return raw_sockets(rig, 2_000, half, hold=True)


def handshakes_with_a_foreign_certificate(rig):
    keys = rig.fleet.path("foreign")
    rig.fleet.run("keys", "authority", keys)
    rig.fleet.run("keys", "issue", keys, "--name", "bad", "--role", "host", "--out", keys)
    return rig.flood(options="r", processes=3, keys=keys)


# MARK: A server against a host


def credit_frames(rig):
    return rig.lie(b"".join(frame("credit", struct.pack(">Q", (32 << 20) + number)) for number in range(20_000)))


def pings_of_a_server(rig):
    return rig.lie(PINGS)


def pongs_of_a_server(rig):
    return rig.lie(PONGS)


def acknowledgements(rig):
    head = b"\x01" + counted(b"web1") + os.urandom(16) + struct.pack(">Q", 0) + bytes(96)
    return rig.lie(frame("recordsDurable", head) * 20_000)


def long_acknowledgements(rig):
    return rig.lie(
        b"".join(
            frame("payloadDurable", struct.pack(">I", 1_024) + b"".join(os.urandom(16) + bytes(40) for _ in range(1_024)))
            for _ in range(16)
        )
    )


def refusals(rig):
    return rig.lie(
        b"".join(
            frame("refusal", b"\x01" + os.urandom(16) + struct.pack(">HQ", 6, 0) + counted(b"full")) for _ in range(20_000)
        )
    )


def refusals_of_the_journal(rig):
    return rig.lie(frame("refusal", b"\x00" + struct.pack(">HQ", 11, 0) + counted(b"busy")) * 20_000)


def answers_that_nobody_asked_for(rig):
    row = os.urandom(16) + struct.pack(">I", 64) + os.urandom(64 * 40)
    return rig.lie(frame("resumeAnswer", struct.pack(">I", 1_000) + row * 1_000))


def positions(rig):
    """Each before a frame that says nothing new."""
    head = b"\x01" + counted(b"web1") + os.urandom(16) + struct.pack(">Q", 0) + bytes(96)
    return rig.lie(
        b"".join(
            frame("position", os.urandom(16) + struct.pack(">Q", number)) + frame("recordsDurable", head)
            for number in range(10_000)
        )
    )


def key_updates_of_a_server(rig):
    return rig.lie(options="wu")


HOSTS = [
    pongs, pongs_coming_back, pings, pings_never_reading, key_updates, key_updates_coming_back, tiny_tls_records,
    tiny_tls_records_of_payload, tiny_payload_frames, big_frames_before_hello, silent_after_the_handshake,
    hellos_coming_back, resume_queries, records_again, small_records, payload_of_unknown_files,
    payload_of_one_refused_file, payload_again, garbage_coming_back, slow_loris, deep_births, many_births,
    large_records, large_records_on_eight_connections, falling_lengths, growth_without_payload, roots_of_one_length,
]
STRANGERS = [silent_sockets, garbage, half_handshakes, handshakes_with_a_foreign_certificate]
SERVERS = [
    credit_frames, pings_of_a_server, pongs_of_a_server, acknowledgements, long_acknowledgements, refusals,
    refusals_of_the_journal, answers_that_nobody_asked_for, positions, key_updates_of_a_server,
]
# Nothing in them breaks a rule or brings nothing, or not in so short a time: they are served, in their turn, and needn't
# be reported.
SERVED = {
    small_records, tiny_payload_frames, slow_loris, hellos_coming_back, resume_queries, deep_births, many_births,
    large_records, large_records_on_eight_connections, falling_lengths, growth_without_payload,
}


def run(flood, tool, chosen):
    with Fleet() as fleet:
        rig = Rig(fleet, tool, chosen)
        rig.note, rig.failure, rig.lie_ends, rig.progress = "", None, None, None
        if flood in SERVERS:
            rig.add_liar()
        rig.start()
        try:
            over = flood(rig) if flood else Rig.thread(rig, lambda is_over: iter(()) if is_over() else pause(is_over))
            begin = time.monotonic()
            with Peak(rig.attacked.anonymous) as peak:
                found = rig.lines.latencies(over)
            took = time.monotonic() - begin
            for process in rig.processes:
                sent, _ = process.communicate()[0].splitlines()[-1].split()
                rig.bytes += int(sent)
            if rig.progress:
                rig.note = rig.progress(rig.bytes, took)
            if not rig.attacked.is_running():
                raise Failure(f"the node ended:\n{rig.attacked.tail()}")
            reports = [line for line in rig.reports() if not rig.is_of_the_end(line)]
            told = rig.told() if chosen.show else []
            return found, peak.greatest, rig.bytes, reports, told, rig.note, rig.failure
        finally:
            rig.stop()


def pause(is_over):
    while not is_over():
        time.sleep(0.01)
        yield 0


def row(name, values, peak, sent, reports, note):
    print(
        f"{name:<40} {sent / MIB:>9.1f} {statistics.median(values):>8.1f} {percentile(values, 0.99):>8.1f} "
        f"{max(values):>8.1f} {peak / MIB:>7.0f} {len(reports):>8}  {note}",
        flush=True,
    )


def problems(flood, values, peak, reports, failure, limit):
    """`limit`: ms that another host's line may take, if that is judged."""
    found = [failure] if failure else []
    if limit is not None and max(values) > limit:
        found.append(f"another host's line took {max(values):.0f} ms")
    bound = 100 if flood in SERVERS else 200
    if peak > bound * MIB:
        found.append(f"{peak / MIB:.0f} MiB of memory")
    if len(reports) > 1 or (not reports and flood not in SERVED):
        found.append(": ".join([f"{len(reports)} reports", *reports[:3]]))
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--bytes", type=int, default=200_000_000)
    parser.add_argument("--only", default="")
    parser.add_argument("--show", action="store_true", help="print the reports, and the counts that follow them")
    parser.add_argument("--lengths", type=int, default=200_000, help="signed lengths in those floods")
    parser.add_argument("--counts", action="store_true", help="don't judge latencies")
    chosen = parser.parse_args()
    only = [name for name in chosen.only.split(",") if name]
    with tempfile.TemporaryDirectory(prefix="nimbus-floods-") as folder:
        tool = os.path.join(folder, "flood")
        subprocess.run(
            ["cc", "-O1", "-o", tool, os.path.join(HERE, "flood.c"), "-lssl", "-lcrypto"], check=True
        )
        print(f"{'flood':<40} {'sent MiB':>9} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'MiB':>7} {'reports':>8}")
        calm = argparse.Namespace(**{**vars(chosen), "seconds": min(chosen.seconds, 4)})
        values, peak, sent, reports, _, note, _ = run(None, tool, calm)
        limit = None if chosen.counts else max(250.0, 3 * max(values))
        row("none", values, peak, sent, reports, note)
        failures = []
        for flood in HOSTS + STRANGERS + SERVERS:
            if only and flood.__name__ not in only:
                continue
            values, peak, sent, reports, told, note, failure = run(flood, tool, chosen)
            found = problems(flood, values, peak, reports, failure, limit)
            row(flood.__name__.replace("_", " "), values, peak, sent, reports, "; ".join(found) or note)
            if chosen.show:
                for line in reports[:5] + told:
                    print(f"    {line[:600]}")
            failures += [f"{flood.__name__}: {text}" for text in found]
    if failures:
        raise Failure("\n" + "\n".join(failures))


if __name__ == "__main__":
    sys.setswitchinterval(0.001)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65_536, most), most))
    main()
