#!/usr/bin/python3
"""G5, W3, W6, P6: a server that the configuration lists as a peer, that shows the certificate for it, and lies. Nothing
forged is held as a host's, what was acknowledged doesn't change, and a real host beside it is served.

usage: test_hostile_peer.py [--seconds 0.5] [CLASS | CLASS.TEST ...]

Prints a row for each attack: how long a real host's lines took from write to readable on the server, beside those
before all attacks; by how much the server's anonymous memory and its disk grew; how many warnings its log has of it.
Latencies are printed and not judged, but for a limit of 20 s: they mean something on a quiet machine only, and over more
seconds. All attacks at length: --seconds 20.
"""

import argparse
import json
import multiprocessing
import os
import re
import statistics
import struct
import sys
import time
import traceback
import unittest
from collections import Counter

from harness import Failure, Fleet, Lines, Peak, percentile, sha256, wait_for
from peer import (
    Closed, Peer, Script, ServerPeer, counted, cursor, file_change, file_root, frame, heads_list, journal_change,
    on_channel, sha, wanted_bytes,
)

MIB = 1 << 20
SECONDS = 0.5
NOTHING = bytes(32)
GREATEST = (1 << 64) - 1
LINE_LIMIT = 20
# Of files that a peer supplies: less than the credit with which each channel begins.
SIZE = 20_000


class Undisturbed:
    """The latencies before all attacks, once for all rows."""

    values = None

    @classmethod
    def measure(cls, lines):
        if cls.values is None:
            ends = time.monotonic() + max(1.0, SECONDS)
            cls.values = lines.latencies(lambda: time.monotonic() >= ends, LINE_LIMIT, 0.01)
            print(
                f"{'attack':<64} {'lines':>6} {'p50 ms':>7} {'p99 ms':>7} {'max ms':>7} {'x':>5} {'MiB':>6} "
                f"{'disk':>6} {'said':>5}"
            )
            row("none", cls.values)


def row(name, values, more=""):
    times = percentile(values, 0.99) / percentile(Undisturbed.values, 0.99)
    print(
        f"{name:<64} {len(values):>6} {statistics.median(values):>7.1f} {percentile(values, 0.99):>7.1f} "
        f"{max(values):>7.1f} {times:>5.1f}{more}",
        flush=True,
    )


def said_of(report):
    """What a line of the log says, and of whom."""
    _, _, rest = report.split(" ", 2)
    text, _, pairs = rest.partition("=")
    return text.rsplit(" ", 1)[0], *re.findall(r"(?:names|server|host)=\S+", rest)


def disk(*folders):
    return sum(
        os.lstat(os.path.join(directory, name)).st_blocks << 9
        for folder in folders for directory, _, names in os.walk(folder) for name in names
    )


class Attacked(unittest.TestCase):
    """A server that lists a peer of its own for each test of the class (so that what it says of one, and what it puts
    up with from one, is no other test's matter), and a real host beside them."""

    # What `server.credit` says: all that payload may take in memory.
    CREDIT = 96 * MIB
    # By how much memory may grow: what is announced ahead (at most 8,960 changes) with the heads that each may have,
    # the greatest frames on their way, and what the allocator keeps of them. Hardly any payload: it has no credit.
    MEMORY = 64 * MIB
    # By how much the disk may: nothing that an attack brings is stored, so it is what the lines take themselves. The
    # store's file grows in steps of 1 MiB, and each commit writes its pages anew.
    DISK = 8 * MIB
    # Servers that logs-a lists beside the hostile ones.
    HONEST = ()

    @classmethod
    def setUpClass(cls):
        cls.fleet = cls.enterClassContext(Fleet())
        evil = [name for name in dir(cls) if name.startswith("test_")]
        cls.names = {name: f"evil{number}" for number, name in enumerate(evil)}
        cls.fleet.servers("logs-a", *cls.HONEST)
        for number, name in enumerate([*cls.names.values(), "stranger"]):
            cls.fleet.issue(name, "server")
            cls.fleet.ports[name] = 1 + number  # Nobody listens there.
        cls.server = cls.fleet.server("logs-a", [*cls.names.values(), *cls.HONEST])
        for name in cls.HONEST:
            cls.fleet.server(name, ["logs-a"])
        with open(cls.server.config, "a") as file:
            file.write(f"  credit: {cls.CREDIT >> 20}MiB\n")
        for name in ("web2", "web3"):
            cls.fleet.issue(name, "host")
        cls.lines = Lines(cls.fleet, "logs-a", "web1")
        cls.addClassCleanup(cls.lines.close)
        cls.server.start().wait_ready()
        cls.bulk = cls.fleet.path("bulk")
        os.makedirs(cls.bulk)
        followed = [f"{folder}/*.log" for folder in (cls.lines.directory, cls.bulk)]
        cls.host = cls.fleet.host("web1", followed, ["logs-a"]).start()
        cls.host.wait_ready()
        cls.lines.write(30)
        # Of other hosts: {(name, file): bytes}, and whose journals are held.
        cls.others, cls.hosts = {}, {"web1"}
        cls.prepare()
        Undisturbed.measure(cls.lines)

    @classmethod
    def prepare(cls):
        pass

    def setUp(self):
        self.evil = self.names[self._testMethodName]
        if not self.server.is_running():  # An earlier test ended it, and has said so.
            self.server.process = None
            self.server.start().wait_ready()
        self.lines.write(30)
        self.log_start = os.path.getsize(self.server.log)

    @classmethod
    def deliver(cls, host, path, data, server="logs-a"):
        """A whole honest delivery; what is left is the host's journal, for whoever supplies it."""
        peer = Peer(cls.fleet, server, host)
        assert peer.hello()[0] == "welcome"
        file = peer.deliver(path, data)
        peer.close()
        if server == "logs-a":
            cls.others[host, file] = data
            cls.hosts.add(host)
        return cls.script(peer), file

    @classmethod
    def script(cls, peer, certificate=None):
        script = Script(cls.fleet, peer.host.decode(), certificate)
        script.journal, script.key, script.public = peer.journal, peer.key, peer.public
        script.records = list(peer.records)
        return script

    def connect(self):
        return ServerPeer(self.fleet, "logs-a", self.evil)

    # Attacks

    def attack(self, attacker, is_reported=True, memory=None, disk_limit=None, meanwhile=None, limit=None):
        """Runs `attacker(until)` in a process of its own while a real host's lines are measured; `meanwhile()`: until
        it is true the attack goes on. Then all that must hold is looked at. Returns what the attacker returned."""
        context = multiprocessing.get_context("fork")
        ended, (receiver, sender) = context.Event(), context.Pipe(False)
        process = context.Process(target=self.run_apart, args=(attacker, ended, meanwhile is None, sender), daemon=True)
        folders = self.fleet.path("logs-a", "data"), self.fleet.logs("logs-a")
        memory_before, disk_before = self.server.anonymous(), disk(*folders)
        process.start()
        deadline = time.monotonic() + (limit or SECONDS + 10)
        failure = None

        def is_over():
            nonlocal failure
            if meanwhile and not ended.is_set() and (meanwhile() or time.monotonic() > deadline):
                failure = None if time.monotonic() <= deadline else "what was to happen meanwhile didn't"
                ended.set()
            if time.monotonic() > deadline + 10:
                process.kill()
            return not process.is_alive() or receiver.poll()

        with Peak(self.server.anonymous) as peak:
            values = self.lines.latencies(is_over, LINE_LIMIT, 0.01)
        is_running = self.server.is_running()
        fault, result = receiver.recv() if receiver.poll(1) else ("the attack hung", None)
        process.join()
        memory, grown = memory or self.MEMORY, disk(*folders) - disk_before
        # That it left by itself is no word about what it did.
        reports = [line for line in self.server.reports(self.log_start) if not line.endswith("why=closed")]
        more = f" {max(0, peak.greatest - memory_before) / MIB:>6.1f} {grown / MIB:>6.1f} {len(reports):>5}"
        row(self.id().split(".", 1)[1], values, f"{more}  {result or ''}")
        if not is_running:
            raise Failure(f"the server ended with {self.server.process.poll()}:\n{self.server.tail()}")
        self.assertIsNone(fault)
        self.assertIsNone(failure, self.server.tail())
        self.assertLess(max(values), LINE_LIMIT * 1000, "a line didn't arrive")
        self.assertLess(peak.greatest - memory_before, memory)
        self.assertLess(grown, disk_limit or self.DISK)
        said = Counter(said_of(report) for report in reports)
        self.assertEqual({text: count for text, count in said.items() if count > 1}, {}, "said more than once")
        if is_reported:
            self.assertTrue(said, "nothing was said of it")
        self.assert_only_the_truth_is_held()
        return result

    @staticmethod
    def run_apart(attacker, ended, is_timed, sender):
        ends = time.monotonic() + SECONDS
        fault = result = None
        try:
            result = attacker(lambda: ended.is_set() or (is_timed and time.monotonic() >= ends))
        except Exception:
            fault = traceback.format_exc()
        sender.send((fault, result))

    def again_and_again(self, once, is_cut=True):
        """An attacker that does it on a new connection whenever it is cut off. `once(peer, until)` returns the bytes
        that it sent, one after the other. `is_cut`: it goes on until it was cut off, for 5 s more at most."""

        def attacker(until):
            sent = cut = 0
            ends = time.monotonic() + SECONDS + 5

            def is_over():
                return until() and (cut > 0 or not is_cut or time.monotonic() >= ends)

            while not is_over():
                try:
                    peer = self.connect()
                except OSError:
                    cut += 1
                    continue
                try:
                    for count in once(peer.greet(), is_over):
                        sent += count
                except (Closed, TimeoutError):
                    cut += 1
                finally:
                    peer.close()
            return f"{sent / MIB:.1f} MiB, cut off {cut} times"

        return attacker

    def flood(self, body, prelude=None, reads=True):
        """`prelude(peer)`: what comes first on each connection."""
        body *= max(1, 65_536 // len(body))

        def once(peer, until):
            if prelude:
                prelude(peer)
            while not until():
                peer.send_raw(body)
                yield len(body)
                if reads:
                    peer.drain()

        return self.again_and_again(once)

    # What must hold

    def assert_only_the_truth_is_held(self):
        self.assertEqual(self.host.settled(30).returncode, 0, "the real host isn't settled")
        with open(self.lines.path, "rb") as file:
            line = file.read()
        rows = self.fleet.files("logs-a")
        expected = [("web1", len(line), file_root(line).hex())]
        expected += [(host, len(data), file_root(data).hex()) for (host, _), data in self.others.items()]
        # A file of which nothing was received may be born: its records are true.
        held = [(row["host"], row["durable"], row["root"]) for row in rows if row["durable"]]
        self.assertEqual(sorted(held), sorted(expected))
        self.assertEqual([row["branches"] for row in rows if row["branches"]], [])
        done = self.fleet.run("inspect", "hosts", "--config", self.server.config, "--json")
        hosts = {host["host"]: host for host in map(json.loads, done.stdout.splitlines())}
        self.assertEqual(set(hosts), self.hosts)
        self.assertEqual([host for host in hosts.values() if [j["fork"] for j in host["journals"]] != [None]], [])
        # Whom the peer has made up is forgotten with it.
        wait_for(
            lambda: {host["name"] for host in self.server.status()["hosts"]} == self.hosts, "status has these hosts", 10)
        # Plain files: these, and no other.
        digests = {sha(data).hex() for data in [line, *self.others.values()]}

        def found():
            top = os.path.join(self.fleet.logs("logs-a"), "files")
            paths = [os.path.join(directory, name) for directory, _, names in os.walk(top) for name in names]
            return [path for path in paths if os.path.getsize(path)]

        wait_for(lambda: {sha256(path) for path in found()} == digests, "the plain files are the hosts' files", 10)
        self.assertEqual(len(found()), len(digests))

    def held_here(self, host):
        """Bytes of the host's plain files on logs-a."""
        top = os.path.join(self.fleet.logs("logs-a"), "files", host)
        return sum(os.path.getsize(os.path.join(found, name)) for found, _, names in os.walk(top) for name in names)


def refusal(file, code=65_535):
    return frame("refusal", b"\x01" + file + struct.pack(">HQ", code, 0) + counted(b"gone"))


def payload(file, offset, data):
    return frame("payload", file + struct.pack(">Q", offset) + data)


CONNECTED = "a connected host's name"


class Forging(Attacked):
    """Journals, records and bytes that no host signed."""

    @classmethod
    def prepare(cls):
        # Of a host that isn't connected: nobody's delivery stands in the way of what a peer supplies.
        cls.data = os.urandom(SIZE)
        cls.web2, cls.file = cls.deliver("web2", b"/var/log/true.log", cls.data)

    def forger(self, forged):
        """Announces `forged(number)`: {name: (script, its frames)}, and supplies it when it is asked for; again and
        again, other ones each time. Says how many of each name were asked for."""

        def attacker(until):
            peer, number, asked = self.connect().greet(), 0, Counter()
            while not until():
                number += 1
                lies = forged(number)
                peer.announce([script.journal_change(number) for script, _ in lies.values()], number)
                ends = time.monotonic() + 0.2
                records = {script.journal: frames for script, frames in lies.values()}
                counts = peer.serve(records, {}, lambda: until() or time.monotonic() > ends)
                for name, (script, _) in lies.items():
                    asked[name] += counts.get(script.journal, 0)
            peer.close()
            return dict(asked)

        return attacker

    def test_W6_journals_that_no_certificate_of_the_host_binds(self):
        def script(host, certificate, records):
            script = Script(self.fleet, host, certificate)
            script.records = records(script)
            script.records.append(script.born(os.urandom(16), b"/forged.log"))
            return script, script.records_from(0)

        def by_another_key(script):
            script.certificate_key = f"{self.fleet.keys}/{self.evil}.key"
            return [script.opened()]

        def forged(_):
            return {
                "a peer's certificate": script("web3", self.evil, lambda s: [s.opened()]),
                "another host's name": script("web9", self.evil, lambda s: [s.opened()]),
                "a server's own name": script(self.evil, self.evil, lambda s: [s.opened()]),
                "another host's certificate": script("web3", "web2", lambda s: [s.opened()]),
                "its journal key": script("web3", self.evil, lambda s: [s.opened(s.binding_by_its_own_key())]),
                "the host's chain, another key": script("web3", "web3", by_another_key),
                "the first record of its true journal": script("web2", self.evil, lambda s: self.web2.records[:1]),
                "none": script("web3", self.evil, lambda s: []),
                # It is connected: such a one is asked for when it stood still for a while.
                CONNECTED: script("web1", self.evil, lambda s: [s.opened()]),
            }

        asked = self.attack(self.forger(forged))
        self.assertLessEqual({name for name, count in asked.items() if not count}, {CONNECTED}, "never asked for")

    def test_J2_records_that_the_journals_key_did_not_sign(self):
        """A journal that is held goes on with records under another key; and the same one is announced under that."""

        def attacker(until):
            peer, number, asked = self.connect().greet(), 0, 0
            while not until():
                number += 1
                thief = Script(self.fleet, "web2", self.evil)
                thief.journal, thief.records = self.web2.journal, list(self.web2.records)
                thief.records.append(thief.born(os.urandom(16), b"/forged.log"))
                frames = thief.records_from(len(self.web2.records))
                if number % 2:
                    thief.public = self.web2.public
                peer.announce([thief.journal_change(number)], number)
                ends = time.monotonic() + 0.2
                asked += sum(peer.serve({thief.journal: frames}, {}, lambda: time.monotonic() > ends).values())
            peer.close()
            return f"asked for {asked} times"

        self.assertNotIn(" 0 times", self.attack(attacker))

    def test_W3_bytes_that_nobody_signed(self):
        """A file that was never born, more of one that is held, and others than those held."""
        unborn, other = os.urandom(16), bytes(len(self.data))
        longer = self.data + b"and more"

        def attacker(until):
            peer = self.connect().greet()
            lies = {unborn: other, self.file: longer}
            peer.announce(
                [file_change(1, b"web2", file, [(len(data), file_root(data))]) for file, data in lies.items()], 1)
            frames = {unborn: payload(unborn, 0, other), self.file: payload(self.file, len(self.data), b"and more")}
            asked = peer.serve({}, frames, until)
            peer.close()
            peer = self.connect().greet()
            peer.announce([file_change(1, b"web2", self.file, [(len(other), file_root(other))])], 1)
            beside = frame("extend", self.file + struct.pack(">Q", 0) + NOTHING) + payload(self.file, 0, other)
            ends = time.monotonic() + SECONDS
            beside = peer.serve({}, {self.file: beside}, lambda: time.monotonic() > ends)
            peer.close()
            return [len(asked), len(beside)]

        # What no record promises isn't even asked for.
        self.assertEqual(self.attack(attacker), [0, 1])


class Altering(Attacked):
    """What the peer really has, of a host that reached no other server, with a few bits changed on the way."""

    def true(self, host):
        script, file, data = Script(self.fleet, host), os.urandom(16), os.urandom(SIZE)
        script.records = [script.opened(), script.born(file, b"/var/log/a.log"), script.appended(file, 0, data, data)]
        return script, file, data

    def supply(self, script, file, data, records, bytes_, until):
        peer = self.connect().greet()
        peer.announce(
            [script.journal_change(1), file_change(2, script.host, file, [(len(data), file_root(data))])], 2)
        asked = peer.serve({script.journal: records}, {file: bytes_}, until)
        peer.close()
        return asked

    def altered_then_true(self, script, file, data, records, bytes_):
        """Until the true bytes are held: whoever lied first doesn't keep them out."""
        true = script.records_from(0), payload(file, 0, data)
        host = script.host.decode()
        self.hosts.add(host)
        self.others[host, file] = data

        def attacker(until):
            ends = time.monotonic() + SECONDS
            lies = records or true[0], bytes_ or true[1]
            asked = self.supply(script, file, data, *lies, lambda: time.monotonic() > ends)
            if not asked.get(file if bytes_ else script.journal):
                raise Failure("what was altered wasn't asked for")
            if self.held_here(host):
                raise Failure("altered bytes are held")
            self.supply(script, file, data, *true, until)

        self.attack(attacker, meanwhile=lambda: self.held_here(host) == len(data), limit=SECONDS + 15)

    def test_W3_a_bit_of_the_payload(self):
        script, file, data = self.true("web2")
        other = bytes([data[0] ^ 1]) + data[1:]
        self.altered_then_true(script, file, data, None, payload(file, 0, other))

    def test_J2_a_bit_of_a_record(self):
        script, file, data = self.true("web3")
        frames = script.records_from(0)
        at = frames.index(b"/var/log/a.log")
        self.altered_then_true(script, file, data, frames[:at] + b"/var/log/b.log" + frames[at + 14 :], None)

    def test_G5_what_a_connected_host_was_acknowledged(self):
        """The real host's own file and journal: others are announced and supplied while it writes."""

        def attacker(until):
            peer, number, asked = self.connect().greet(), 1 << 20, Counter()
            while not any(kind == 2 and host == b"web1" for kind, host, _ in peer.announced):
                peer.read()
            file = next(uuid for kind, host, uuid in peer.announced if kind == 2 and host == b"web1")
            journal, (public, heads) = next(
                (uuid, value) for (kind, host, uuid), value in peer.announced.items() if kind == 1 and host == b"web1")
            while not until():
                number += 1
                other = os.urandom(16 + number % 4_096)
                lies = [(len(other), file_root(other))]
                peer.announce(
                    [
                        journal_change(number, b"web1", journal, public, [(heads[0][0] + number, NOTHING)]),
                        file_change(number, b"web1", file, lies),
                    ],
                    number,
                )
                beside = frame("extend", file + struct.pack(">Q", 0) + NOTHING)
                ends = time.monotonic() + 0.05
                asked.update(
                    peer.serve({}, {file: beside + payload(file, 0, other)}, lambda: time.monotonic() > ends))
            peer.close()
            return f"{number - (1 << 20)} lies"

        # Its own delivery is waited for, so that nothing may have been asked for, and nothing to be said.
        self.attack(attacker, is_reported=False)


class Withholding(Attacked):
    """It announces what it has, and what another server has as well: that one is heard."""

    HONEST = ("honest0", "honest1", "honest2", "honest3")

    @classmethod
    def prepare(cls):
        cls.stores = []
        for number, name in enumerate(cls.HONEST):
            host, data = f"host{number}", os.urandom(SIZE)
            cls.fleet.issue(host, "host")
            # It connects to nobody before the attack stands.
            cls.fleet.server(name).start().wait_ready()
            script, file = cls.deliver(host, b"/var/log/a.log", data, name)
            cls.fleet.nodes[name].stop()
            cls.stores.append((script, file, data, cls.fleet.server(name, ["logs-a"])))

    def withhold(self, number, hold, thief=False):
        """`hold(peer, channel, file, data)`: what it does when it is asked for bytes, a `thief` when it is asked for
        records; returns what it goes on with, if anything."""
        script, file, data, honest = self.stores[number]
        host = script.host.decode()
        stands = multiprocessing.get_context("fork").Event()
        self.hosts.add(host)
        self.others[host, file] = data
        announced = script
        if thief:
            announced = Script(self.fleet, host, self.evil)
            announced.journal, announced.records = script.journal, script.records

        def attacker(until):
            peer, rest = self.connect().greet(), None
            peer.announce(
                [announced.journal_change(1), file_change(2, script.host, file, [(len(data), file_root(data))])], 2)
            while not until():
                try:
                    _, name, body = peer.next(0.1)
                except TimeoutError:
                    name = None
                if name == "wantRecords" and not thief:
                    peer.on(struct.unpack(">I", body[:4])[0], script.records_from(0))
                elif name in ("wantBytes", "wantRecords"):
                    rest = hold(peer, struct.unpack(">I", body[:4])[0], file, data) or rest
                    stands.set()
                if rest:
                    peer.send_raw(next(rest))
            peer.close()

        def is_there():
            if stands.is_set() and not honest.process:
                honest.start()
            return honest.process and self.held_here(host) == len(data)

        try:
            self.attack(attacker, is_reported=False, meanwhile=is_there, limit=30)
        except AssertionError:
            del self.others[host, file]
            if thief:
                self.hosts.discard(host)
            raise
        finally:
            honest.kill()

    def test_M3_payload_that_never_comes(self):
        self.withhold(0, lambda *_: None)

    def test_M3_a_frame_of_payload_a_byte_at_a_time(self):
        def hold(peer, channel, file, data):
            peer.send_raw(on_channel(channel, payload(file, 0, data))[:40])
            return iter(lambda: b"\x00", None)

        self.withhold(1, hold)

    def test_M3_payload_in_frames_of_a_byte(self):
        def hold(peer, channel, file, data):
            return (on_channel(channel, payload(file, at, data[at : at + 1])) for at in range(len(data)))

        self.withhold(2, hold)

    def test_M3_a_journal_under_another_key_of_which_nothing_comes(self):
        opened = set()

        def hold(peer, channel, file, data):
            if channel not in opened:
                peer.on(channel, frame("extendJournal", struct.pack(">Q", 0) + NOTHING))
            opened.add(channel)
            return iter(lambda: frame("pong", bytes(8)), None)

        self.withhold(3, hold, thief=True)


class Repeating(Attacked):
    def test_M3_all_once_more(self):
        """The same announcements, under the same numbers and others, the same records and the same payload: on the
        channel on which they came, on one that has ended, and on another connection."""
        script, file, data = Script(self.fleet, "web2"), os.urandom(16), os.urandom(SIZE)
        script.records = [script.opened(), script.born(file, b"/var/log/a.log"), script.appended(file, 0, data, data)]
        records, bytes_ = script.records_from(0), payload(file, 0, data)
        self.hosts.add("web2")
        self.others["web2", file] = data

        def announce(peer, number):
            head = [(len(data), file_root(data))]
            peer.announce([script.journal_change(number), file_change(number, b"web2", file, head)], number)

        def attacker(until):
            sent = {"wantRecords": 0, "wantBytes": 0}
            while not until():
                peer = self.connect().greet()
                announce(peer, 1)
                is_held = lambda: until() or self.held_here("web2") == len(data)
                peer.serve({script.journal: records}, {file: bytes_}, is_held)
                try:
                    for number in range(2_000):
                        announce(peer, 1 + number // 4)
                        for channel in peer.channels:
                            peer.on(channel, records if number % 2 else bytes_)
                        if number == 1_000:
                            for channel in peer.channels:
                                peer.send("closeChannel", struct.pack(">IH", channel, 12) + counted(b""))
                        peer.drain()
                        if until():
                            break
                except Closed:
                    pass
                peer.close()

        self.attack(attacker, is_reported=False)


class Claiming(Attacked):
    """Announcements of what isn't there, and numbers that make no sense."""

    @classmethod
    def prepare(cls):
        # Of a host that isn't connected: what is announced of it is asked for at once.
        cls.web2, cls.file = cls.deliver("web2", b"/var/log/a.log", b"x" * SIZE)

    def files(self, host, first, count):
        # Random uuids and roots, cut from one piece of noise.
        noise = os.urandom(count * 48)
        return [
            file_change(first + index, host, noise[48 * index :][:16], [(1 + index, noise[48 * index + 16 :][:32])])
            for index in range(count)
        ]

    def announcer(self, host, refuses, most=300_000):
        """As many files as the bounds allow, one behind the other. `refuses`: what is asked for is refused at once."""

        def attacker(until):
            peer, sent = self.connect().greet(), 0
            while not until() and sent < most:
                while sent < most and sent + 256 <= peer.noted + 4_096:
                    peer.announce(self.files(host, sent + 1, 256), sent + 256)
                    sent += 256
                try:
                    _, name, body = peer.next(0.05)
                    while True:
                        if name == "wantBytes" and refuses:
                            peer.on(struct.unpack(">I", body[:4])[0], refusal(body[4:20]))
                        _, name, body = peer.next(0.001)
                except TimeoutError:
                    pass
            peer.close()
            return f"{sent} announced, {peer.noted} noted"

        return attacker

    def test_M3_300_000_files_of_a_host_that_nobody_knows(self):
        self.attack(self.announcer(b"web9", False), is_reported=False)

    def test_M3_300_000_files_of_a_known_host_refused_one_by_one(self):
        self.attack(self.announcer(b"web2", True), is_reported=False)

    def test_M3_300_000_files_of_a_known_host_and_no_answer(self):
        self.attack(self.announcer(b"web2", False), is_reported=False)

    def test_M3_more_than_was_noted(self):
        # Of journals that are asked for and don't come nothing is given up until so many wait that no more is noted;
        # files would be, so that a server that keeps pace notes them all, and rightly.
        public = Script(self.fleet, "web2", self.evil).public

        def once(peer, until):
            for number in range(1, 1 << 40, 256):
                if until():
                    return
                noise = os.urandom(256 * 48)
                changes = [
                    journal_change(number + at, b"web2", noise[48 * at :][:16], public, [(1, noise[48 * at + 16 :][:32])])
                    for at in range(256)
                ]
                peer.send_raw(peer.announce_frame(changes, number + 255))
                yield sum(map(len, changes))
                peer.drain()

        self.attack(self.again_and_again(once))

    def test_M3_64_heads_of_each_of_many_files(self):
        def once(peer, until):
            for number in range(1, 34 * 256, 256):
                heads = [(1 + length, os.urandom(32)) for length in range(64)]
                changes = [
                    file_change(number + index, b"web2", os.urandom(16), heads) for index in range(256)]
                body = peer.announce_frame(changes, number + 255)
                peer.send_raw(body)
                yield len(body)
                peer.drain()
                if until():
                    return
            while not until():
                peer.drain()
                time.sleep(0.01)

        # 64 heads of 40 bytes, twice, of each of 8,960.
        self.attack(self.again_and_again(once, is_cut=False), is_reported=False, memory=128 * MIB)

    def test_P6_a_bucket_of_the_trie_that_never_ends(self):
        def attacker(until):
            peer, sent = self.connect().greet(by_trie=True), 0
            peer.expect("askTrie")
            try:
                while not until() or sent < 1_000_000:
                    changes = self.files(b"web2", sent + 1, 256)
                    peer.send("trieBucket", struct.pack(">BI", 0, len(changes)) + b"".join(changes))
                    sent += len(changes)
                    peer.drain()
            except (Closed, TimeoutError):
                return f"{sent} told, and cut off"
            finally:
                peer.close()
            return f"{sent} told"

        self.assertIn("cut off", self.attack(attacker, limit=60))

    def test_P6_a_change_with_the_number_0(self):
        change = file_change(0, b"web9", os.urandom(16), [(5, NOTHING)])
        self.attack(self.claims([lambda peer: peer.greet().announce([change], 0)]), is_reported=False)

    def claims(self, claims):
        """Each on a connection of its own, which the server may end, or not."""

        def attacker(until):
            ended = 0
            for _ in range(1 << 20):
                for claim in claims:
                    peer = self.connect()
                    try:
                        claim(peer)
                        for _ in range(20):
                            peer.next(0.02)
                    except TimeoutError:
                        pass
                    except Closed:
                        ended += 1
                    peer.close()
                if until():
                    return f"{ended} times cut off"

        return attacker

    def test_P6_numbers_at_their_ends(self):
        file, journal = os.urandom(16), os.urandom(16)

        def announce(last, *changes, after=0):
            return lambda peer: peer.greet(after=after).announce(list(changes), last)

        def hello(known):
            return lambda peer: peer.greet(known())

        def noted(noted, held):
            return lambda peer: peer.greet().send("noted", struct.pack(">QQ", noted, held))

        def change(number, length, host=b"web2", root=NOTHING):
            return file_change(number, host, file, [(length, root)])

        def life():
            """That of the server's feed."""
            other = self.connect().greet()
            body = other.expect("announce")[1]
            other.close()
            return body[:16]

        most = (1 << 63) - 1
        a_journal = journal_change(1, b"web2", journal, os.urandom(32), [(most, NOTHING)])
        claims = [
            announce(GREATEST),
            announce(GREATEST, change(GREATEST, 5)),
            announce(GREATEST, change(GREATEST, 5), after=GREATEST),
            announce(GREATEST, change(1, 5), change(GREATEST, 5), change(GREATEST, 6)),
            announce(0, after=GREATEST),
            announce(1, change(1, most)),
            announce(1, change(1, most, b"web9")),
            announce(1, a_journal),
            announce(1, change(1, 1 << 63)),
            announce(1, change(1, GREATEST)),
            announce(1, change(1, 0)),
            # Numbers that fall, that aren't the greatest, and one that was given twice.
            announce(9, change(5, 5), change(4, 5)),
            announce(4, change(5, 5)),
            announce(5, change(5, 5), change(5, 6), change(5, 7)),
            announce(3, change(2, 5), after=7),
            lambda peer: (peer.greet().announce([change(9, 5)], 9), peer.announce([], 3)),
            # Cursors that never were.
            hello(lambda: cursor(os.urandom(16), 5, 5)),
            hello(lambda: cursor(os.urandom(16), GREATEST, GREATEST)),
            hello(lambda: cursor(life(), GREATEST, GREATEST)),
            hello(lambda: cursor(life(), GREATEST, 0)),
            hello(lambda: cursor(life(), 1, 0)),
            noted(GREATEST, 0), noted(0, GREATEST), noted(1 << 30, 1 << 30),
        ]
        self.attack(self.claims(claims))

    def test_P6_lengths_at_their_ends_on_channels(self):
        script, file, most = self.web2, self.file, (1 << 63) - 1

        def wants(credit=most):
            def claim(peer):
                peer.greet().open_channel(0, b"web2", script.journal, script.public, credit)
                for length in (1, SIZE, SIZE + 1, most):
                    peer.want_bytes(0, file, length, file_root(b"x" * length) if length <= SIZE else NOTHING)
                    peer.want_bytes(0, file, length, NOTHING, [(most, NOTHING), (1, NOTHING)])
                    peer.want_records(0, length, NOTHING)
                peer.on(0, frame("credit", struct.pack(">Q", most)))
                peer.on(0, frame("recordsDurable", script.checkpoint(most, NOTHING)))
                peer.on(0, frame("recordsDurable", script.checkpoint(0, NOTHING)))
                peer.on(0, frame("journalAnswer", heads_list([(most, NOTHING)] * 4_096)))

            return claim

        def raw(name, body):
            return lambda peer: (
                peer.greet().open_channel(0, b"web2", script.journal, script.public), peer.send(name, body))

        def wanted(length, held=()):
            return raw("wantBytes", wanted_bytes(0, file, length, NOTHING, held))

        def cut_short(body, count):
            return raw("wantBytes", body[:-4] + struct.pack(">I", count))

        self.attack(self.claims([
            wants(), wants(0), wants(1),
            wanted(GREATEST), wanted(0), wanted(5, [(1 << 63, NOTHING)]),
            cut_short(wanted_bytes(0, file, 5, NOTHING), 0xFFFFFFFF),
            raw("wantRecords", struct.pack(">IQ", 0, 1 << 63) + NOTHING),
            raw("openChannel", struct.pack(">I", 0) + counted(b"web2") + script.journal + script.public),
            raw("openChannel", struct.pack(">I", 1) + counted(b"web2") + script.journal + script.public),
            raw("openChannel", struct.pack(">I", 0xFFFFFFFE) + counted(b"web2") + script.journal + script.public),
        ]))

    def test_P6_lengths_at_their_ends_in_what_is_supplied(self):
        """Of a journal that it may supply: records and payload far beyond what was asked for."""
        script, file = Script(self.fleet, "web3"), os.urandom(16)
        most = (1 << 63) - 1
        self.hosts.add("web3")
        script.records = [script.opened()]
        first = script.records_from(0)
        root = script.root(None)

        def supply(*frames):
            def claim(peer):
                changes = [
                    journal_change(1, b"web3", script.journal, script.public, [(most, NOTHING)]),
                    file_change(2, b"web3", file, [(most, NOTHING)]),
                ]
                peer.greet().announce(changes, 2)
                ends = time.monotonic() + 0.1
                peer.serve({script.journal: first + b"".join(frames)}, {file: b"".join(frames)},
                           lambda: time.monotonic() > ends)

            return claim

        def records(number, count=1):
            body = struct.pack(">QI", number, count) + counted(script.opened())
            return frame("records", body + script.checkpoint(most, root))

        self.attack(self.claims([
            supply(records(most)), supply(records(GREATEST)), supply(records(1, 0xFFFFFFFF)), supply(records(1 << 62)),
            supply(frame("extendJournal", struct.pack(">Q", most) + NOTHING)),
            supply(frame("journalQuery", struct.pack(">Q", most)) * 100),
            supply(payload(file, most - 1, b"x")), supply(payload(file, most, b"x")),
            supply(payload(file, GREATEST, b"x")),
            supply(frame("extend", file + struct.pack(">Q", most) + NOTHING)),
        ]))


class Flooding(Attacked):
    """What costs the server work, and brings nothing."""

    @classmethod
    def prepare(cls):
        cls.data = os.urandom(8 << 20)
        peer = Peer(cls.fleet, "logs-a", "web2")
        assert peer.hello()[0] == "welcome"
        cls.file = peer.deliver(b"/var/log/large.log", cls.data)
        # 24 MiB of records in frames of their own.
        for _ in range(24):
            peer.send_records([peer.record(99, os.urandom(1_000_000))])
            assert peer.records_durable(30)
        peer.close()
        cls.web2 = cls.script(peer)
        cls.others["web2", cls.file] = cls.data
        cls.hosts.add("web2")

    def open(self, peer, number=0):
        peer.open_channel(number, b"web2", self.web2.journal, self.web2.public)

    def test_P6_pings(self):
        self.attack(self.flood(b"".join(frame("ping", struct.pack(">Q", number)) for number in range(5_000))))

    def test_P6_pings_and_nothing_is_read(self):
        self.attack(self.flood(frame("ping", bytes(8)), reads=False))

    def test_P6_announcements_of_nothing(self):
        self.attack(self.flood(frame("announce", bytes(16) + struct.pack(">QI", 0, 0))))

    def test_P6_the_same_announcement(self):
        changes = [file_change(1, b"web2", os.urandom(16), [(5, NOTHING)]) for _ in range(256)]
        self.attack(self.flood(frame("announce", bytes(16) + struct.pack(">QI", 1, 256) + b"".join(changes))))

    def test_P6_announcements_of_what_is_held(self):
        head = [(len(self.data), file_root(self.data))]
        changes = [file_change(1, b"web2", self.file, head), self.web2.journal_change(1)] * 128
        self.attack(self.flood(frame("announce", bytes(16) + struct.pack(">QI", 1, 256) + b"".join(changes))))

    def test_P6_beginnings_of_what_is_held(self):
        """Of each a root is computed, and it is another one."""

        def once(peer, until):
            while not until():
                changes = [file_change(1, b"web2", self.file, [(at << 16 | 9, os.urandom(32)) for at in range(64)])]
                body = peer.announce_frame(changes * 8, 1)
                peer.send_raw(body)
                yield len(body)
                peer.drain()

        self.attack(self.again_and_again(once))

    def test_P6_noted(self):
        self.attack(self.flood(frame("noted", bytes(16))))

    def test_P6_channels_opened_and_closed(self):
        named = counted(b"web1") + os.urandom(48)
        body = b"".join(
            frame("openChannel", struct.pack(">I", 2 * number) + named)
            + frame("closeChannel", struct.pack(">IH", 2 * number, 12) + counted(b""))
            for number in range(2_000)
        )
        self.attack(self.flood(body))

    def test_P6_channels_that_never_were(self):
        body = frame("closeChannel", struct.pack(">IH", 77, 12) + counted(b""))
        body += frame("channel", struct.pack(">I", 78)) + frame("journalQuery", bytes(8))
        body += frame("wantRecords", struct.pack(">IQ", 80, 5) + NOTHING)
        self.attack(self.flood(body))

    def test_P6_refusals_of_what_was_not_sent(self):
        refusals = b"".join(on_channel(0, refusal(os.urandom(16))) for _ in range(500))
        self.attack(self.flood(refusals, self.open))

    def test_P6_wants_for_what_is_not_held(self):
        def want(number):
            return frame("wantBytes", wanted_bytes(0, os.urandom(16), 1 + number, NOTHING))

        self.attack(self.flood(b"".join(map(want, range(500))), self.open))

    def test_P6_wants_with_absurd_ranges(self):
        """Of what is held, behind beginnings that aren't."""

        def want(number):
            held = [(1 + (at << 16) + number, os.urandom(32)) for at in range(64)]
            length = (1 << 62) + number if number % 2 else 1 << 22
            return frame("wantBytes", wanted_bytes(0, self.file, length, file_root(self.data[: 1 << 22]), held))

        self.attack(self.flood(b"".join(map(want, range(40))), self.open))

    def test_P6_the_same_bytes_wanted_again_and_again(self):
        def once(peer, until):
            self.open(peer)
            for _ in range(16):
                peer.want_bytes(0, self.file, len(self.data), file_root(self.data))
            while not until():
                if peer.next()[1] == "payload":
                    yield 256 << 10

        # It is asked for, and served: in its turn.
        self.attack(self.again_and_again(once, is_cut=False), is_reported=False)

    def takes_nothing(self, seconds):
        """Asks for 24 MiB of records on each of 64 channels, and for payload, acknowledges all at once, and reads
        nothing; after so many seconds on the next connection."""
        length, root = len(self.web2.records), self.web2.root(None)
        durable = frame("recordsDurable", self.web2.checkpoint(length, NOTHING))
        acknowledgements = b"".join(on_channel(number, durable) for number in range(0, 128, 2))
        left = []

        def once(peer, until):
            ends = time.monotonic() + seconds
            for number in range(0, 128, 2):
                self.open(peer, number)
                peer.want_records(number, length, root)
            peer.want_bytes(0, self.file, len(self.data), file_root(self.data))
            while not until() and time.monotonic() < ends:
                peer.send_raw(acknowledgements)
                yield len(acknowledgements)
            if not until():
                # The server has to end it.
                left.append(os.dup(peer.socket.fileno()))

        return self.again_and_again(once)

    def test_P6_much_is_wanted_and_acknowledged_and_nothing_read(self):
        """What was read for it waits for the socket, whatever it says that it has: no more than 16 frames of records."""
        self.attack(self.takes_nothing(1 << 20))

    def test_P6_nothing_is_read_on_one_connection_after_the_other(self):
        """What waits for one that is taken over isn't kept beside that of the next one."""
        self.attack(self.takes_nothing(0.3))


class Crowding(Attacked):
    """More hosts' extents than there is memory for, begun and not ended."""

    def test_P6_all_turns_are_taken_and_dribbled(self):
        scripts = {}
        for number in range(16):
            host, file, root = f"host{number}", os.urandom(16), os.urandom(32)
            self.fleet.issue(host, "host")
            script = Script(self.fleet, host)
            extent = script.record(3, file + struct.pack(">QQ", 0, 4 * MIB) + root)
            script.records = [script.opened(), script.born(file, b"/var/log/a.log"), extent]
            scripts[file] = script, file_change(100 + number, script.host, file, [(4 * MIB, root)])
            self.hosts.add(host)
        stands = multiprocessing.get_context("fork").Event()

        def attacker(until):
            peer, begun, since = self.connect().greet(), {}, time.monotonic()
            due = since
            changes = [script.journal_change(1 + number) for number, (script, _) in enumerate(scripts.values())]
            peer.announce(changes + [change for _, change in scripts.values()], 200)
            while not until():
                try:
                    _, name, body = peer.next(0.1)
                except TimeoutError:
                    name = None
                if name == "wantRecords":
                    (channel,) = struct.unpack(">I", body[:4])
                    journal = peer.channels[channel][1]
                    peer.on(channel, next(s for s, _ in scripts.values() if s.journal == journal).records_from(0))
                elif name == "wantBytes":
                    # File: its channel, and how much was sent.
                    begun[body[4:20]] = struct.unpack(">I", body[:4])[0], 0
                if time.monotonic() >= due:
                    due += 0.3
                    for file, (channel, sent) in begun.items():
                        peer.on(channel, payload(file, sent, b"x"))
                        begun[file] = channel, sent + 1
                    if len(begun) == len(scripts):
                        stands.set()
            peer.close()
            return f"{len(begun)} begun, {time.monotonic() - since:.1f} s"

        data, path = os.urandom(20 * MIB), os.path.join(self.bulk, "bulk.log")
        self.others["web1", path] = data

        def is_delivered():
            if stands.is_set() and not os.path.exists(path):
                with open(path, "wb") as file:
                    file.write(data)
            return os.path.exists(path) and self.held_here("web1") >= len(data)

        self.attack(
            attacker, is_reported=False, memory=self.CREDIT + self.MEMORY, disk_limit=3 * len(data),
            meanwhile=is_delivered, limit=20)


class Disorder(Attacked):
    def test_W4_frames_out_of_their_place(self):
        """Before hello, of the other direction, of no channel, unasked payload, garbage: each ends the connection."""
        file = os.urandom(16)
        checkpoint = Script(self.fleet, "web2").checkpoint(1, NOTHING)
        host = Script(self.fleet, "web2")
        hello = self.connect_only().hello_frame()
        channel = frame("channel", struct.pack(">I", 1))
        own = {
            "feed": struct.pack(">QB", 0, 0), "noted": bytes(16), "announce": bytes(28),
            "openChannel": struct.pack(">I", 0) + counted(b"web1") + bytes(48),
            "closeChannel": struct.pack(">IHI", 0, 0, 0), "wantRecords": struct.pack(">IQ", 0, 1) + NOTHING,
            "wantBytes": wanted_bytes(0, file, 1, NOTHING),
            "channel": struct.pack(">I", 0), "pong": bytes(8),
        }
        hosts = {
            "hello": host.hello_frame()[5:], "resumeQuery": heads_list([]), "journalQuery": bytes(8),
            "extendJournal": bytes(40), "extend": file + bytes(40), "payload": file + bytes(8) + b"x",
            "records": struct.pack(">QI", 0, 1) + counted(host.opened()) + checkpoint,
        }
        servers = {
            "welcome": struct.pack(">HIBBIQI", 1, 0, 0, 0, 0, 0, 0), "recordsDurable": checkpoint, "credit": bytes(8),
            "resumeAnswer": bytes(4), "payloadDurable": bytes(4), "journalAnswer": bytes(4), "position": bytes(24),
            "refusal": b"\x00" + struct.pack(">HQI", 0, 0, 0),
        }
        garbage = [
            b"\xff" * 64, struct.pack(">IB", 0xFFFFFFFF, 20), struct.pack(">IB", 8, 32) + bytes(8),
            struct.pack(">IB", 28, 20) + b"\xff" * 28, struct.pack(">IB", 0, 18), b"GET / HTTP/1.1\r\n\r\n",
            frame("announce", bytes(24) + struct.pack(">I", 257)), frame("peerHello", bytes(14)),
        ]
        before = [(f"{name} before hello", frame(name, body)) for name, body in (own | servers).items()]
        before += [(f"{name} before hello", frame(name, body)) for name, body in hosts.items() if name != "hello"]
        after = [(f"{name} of no channel", frame(name, body)) for name, body in (hosts | servers).items()]
        after += [("a second hello", hello), ("a second feed", frame("feed", bytes(9)))]
        after += [("parts nobody asked for", frame("trieParts", bytes(512)))]
        after += [("a bucket nobody asked for", frame("trieBucket", b"\x01" + bytes(4)))]
        after += [("no part of a trie", frame("askTrie", bytes(16) + b"\x01"))]
        after += [("an announcement before the feed", None)]
        both = [(f"garbage {number}", piece) for number, piece in enumerate(garbage)]

        def ends(peer, piece):
            try:
                peer.send_raw(piece)
                while True:
                    peer.read(5)
            except Closed:
                return True
            except TimeoutError:
                return False
            finally:
                peer.close()

        def attacker(until):
            stays = []
            for name, piece in before + both:
                if not ends(self.connect(), piece):
                    stays.append(name)
            for name, piece in after + both:
                peer = self.connect()
                if piece is None:
                    peer.send_raw(peer.hello_frame())
                    piece = frame("announce", bytes(28))
                else:
                    peer.greet()
                if not ends(peer, piece):
                    stays.append(name)
            return stays

        self.assertEqual(self.attack(attacker), [])

    def connect_only(self):
        peer = self.connect()
        peer.close()
        return peer

    def test_W6_frames_of_the_wrong_side_of_a_channel(self):
        """And payload that nobody asked for, on a channel that is open and on one that isn't."""
        script, file = self.deliver("web2", b"/var/log/a.log", b"true\n")

        def attacker(until):
            ended = rounds = 0
            while not until():
                for lie in (
                    lambda peer, channel: peer.on(0, frame("records", struct.pack(">QI", 0, 1) + counted(b"x" * 20)
                                                           + script.checkpoint(1, NOTHING))),
                    lambda peer, channel: peer.on(0, payload(file, 0, b"lie!\n")),
                    lambda peer, channel: peer.on(channel, frame("welcome", struct.pack(">HIBBIQI", 1, 0, 0, 0, 0, 0, 0))),
                    lambda peer, channel: peer.on(channel, frame("recordsDurable", script.checkpoint(1, NOTHING))),
                    lambda peer, channel: peer.on(channel, payload(file, 0, b"lie!\n") * 50),
                    lambda peer, channel: peer.on(channel, payload(os.urandom(16), 0, b"x" * 262_144) * 50),
                    lambda peer, channel: peer.on(99, payload(file, 0, b"lie!\n") * 50),
                ):
                    peer = self.connect().greet()
                    peer.open_channel(0, b"web2", script.journal, script.public)
                    # The server opens one for what it is told of.
                    peer.announce([journal_change(1, b"web2", script.journal, script.public, [(99, NOTHING)])], 1)
                    peer.expect("openChannel")
                    rounds += 1
                    try:
                        lie(peer, next(iter(peer.channels)))
                        for _ in range(20):
                            peer.next(0.02)
                    except Closed:
                        ended += 1
                    except TimeoutError:
                        pass
                    peer.close()
            return f"{ended} of {rounds} connections ended"

        self.attack(attacker)

    def test_W6_who_is_not_listed_gets_nothing(self):
        """A server that isn't listed, one that says another's name, and a host that says it is a server."""

        def attacker(until):
            got = []
            for name, certificate in [("stranger", "stranger"), (self.evil, "stranger"), ("stranger", self.evil),
                                      ("logs-a", self.evil), (self.evil, "web2"), ("web2", "web2")]:
                peer = ServerPeer(self.fleet, "logs-a", name, certificate)
                peer.send_raw(peer.hello_frame())
                peer.send("feed", bytes(9))
                try:
                    while True:
                        frame_name, body = peer.read(5)
                        if frame_name != "goodbye" or struct.unpack(">H", body[:2])[0] != 5:
                            got.append((name, certificate, frame_name))
                except Closed:
                    pass
                peer.close()
            return got

        self.assertEqual(self.attack(attacker), [])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each attack")
    chosen, rest = parser.parse_known_args()
    SECONDS = chosen.seconds
    unittest.main(argv=[sys.argv[0], *rest])
