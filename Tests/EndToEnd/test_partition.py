#!/usr/bin/python3
"""G4, M1, M2, M3: two servers that can't reach each other while each gets as many changes from a host of its own, half of
them new files and half growth of files that both have, and while a third host tells each of them something else: records
of one journal that part, other bytes of the same files. It goes on doing so as they meet. Then both hold all, also both
sides of every disagreement, with equal digests.

usage: test_partition.py [--changes 100] [--lies 5] [--late-lies 5] [--image] [--seed N]
       test_partition.py --changes 50000 --image    # the stores lie on an ext4 image of their own, which needs root
"""

import argparse
import hashlib
import json
import os
import random
import time
import uuid

from harness import Failure, Fleet, ManyLogs, expect_equal, fleet_on_image, free_port, settle, start, wait_for
from link import links
from peer import LEAF, Peer

SERVERS = ["logs-a", "logs-b"]


class Equivocator:
    """A host with one journal and one key that tells each server something else."""

    NAME = "web3"

    def __init__(self, fleet, chance):
        self.fleet, self.chance = fleet, chance
        fleet.issue(self.NAME, "host")
        # By file: what each server was told.
        self.told = {}

    def begin(self):
        """What both are told by way of one of them: records, and files of which each then hears another continuation."""
        first = Peer(self.fleet, SERVERS[0], self.NAME)
        if first.hello()[0] != "welcome":
            raise Failure("no welcome")
        # They part within the first leaf, at its end, and behind it.
        for length in (1_000, LEAF, LEAF + 1_000):
            data = self.chance.randbytes(length)
            self.told[first.deliver(b"/var/log/common-%d.log" % length, data)] = {data}
        first.close()
        same = {"journal": first.journal, "key": first.key}
        self.sides = [Peer(self.fleet, server, self.NAME, records=list(first.records), **same) for server in SERVERS]

    def come_back(self):
        """It says nothing while others are waited for, and is disconnected for it."""
        for peer in self.sides:
            peer.close()
            peer.connect(self.fleet, SERVERS[self.sides.index(peer)])
            if not peer.go_on():
                raise Failure("its own records aren't held any more")

    def part(self):
        self.come_back()
        for file, same in list(self.told.items()):
            (same,) = same
            self.tell(file, None, [same + self.chance.randbytes(self.chance.randrange(1, 3 * LEAF)) for _ in self.sides])

    def lie(self):
        """Of a new file, which isn't at the same path either."""
        size = self.chance.randrange(1, 2 * LEAF)
        self.tell(os.urandom(16), b"/var/log/lie-%d.log", [self.chance.randbytes(size + number) for number in range(2)])

    def tell(self, file, path, sides):
        self.told[file] = set(sides)
        for number, (peer, data) in enumerate(zip(self.sides, sides)):
            born = [peer.born(file, path % number)] if path else []
            peer.send_records([*born, peer.appended(file, 0, data, data)])
            if not peer.records_durable(30):
                raise Failure(f"{SERVERS[number]} takes no more records")
            # Busy while it gets the other side's bytes of the same file from its peer.
            wait_for(lambda: peer.deliver_beside(file, data), f"{SERVERS[number]} holds what it was told", pause=0.2)

    def leave(self):
        for peer in self.sides:
            peer.close()

    def check(self, contents):
        for file, sides in self.told.items():
            expected = {(len(data), hashlib.sha256(data).hexdigest()) for data in sides}
            if (found := contents.get((self.NAME, str(uuid.UUID(bytes=file))))) != expected:
                raise Failure(f"of {file.hex()} {expected} was told, and {found} is held")
        histories = {(len(peer.records), peer.root(None).hex()) for peer in self.sides}
        for server in SERVERS:
            node = self.fleet.nodes[server]
            done = self.fleet.run("inspect", "--config", node.config, "--json")
            journals = [journal for journal in json.loads(done.stdout)["journals"] if journal["host"] == self.NAME]
            if {(journal["records"], journal["root"]) for journal in journals} != histories or len(journals) != 2:
                raise Failure(f"{server} holds {journals}, and {histories} was told")
            status = node.status()
            if status["branches"] != [{"host": self.NAME, "count": len(self.told)}]:
                raise Failure(f"{server} counts {status['branches']} of {len(self.told)} branches")
            if status["equivocations"] != [{"host": self.NAME, "count": 1}]:
                raise Failure(f"{server} counts {status['equivocations']} sequences beside the first")
            reports = node.reports()
            for words in ("other bytes than those held came", "other records than those held came"):
                if not any(words in line and self.NAME in line for line in reports):
                    raise Failure(f"{server} hasn't said that {words}")


def run(chosen):
    chance = random.Random(chosen.seed)
    room = chosen.changes * 100_000 + (1 << 30), chosen.changes * 14 + 50_000
    with fleet_on_image(*room) if chosen.image else Fleet() as fleet:
        fleet.ports.update({name: free_port() for name in SERVERS})
        with links(fleet, SERVERS) as between:
            a, b = (fleet.server(name, [peer for peer in SERVERS if peer != name]) for name in SERVERS)
            fleet.fronts = {}
            logs = [ManyLogs(fleet, "web1"), ManyLogs(fleet, "web2")]
            half = chosen.changes // 2
            for written in logs:
                written.write(range(half))
            hosts = [fleet.host(written.host, [written.pattern], [server]) for written, server in zip(logs, SERVERS)]
            start(a, b, *hosts)
            equivocator = Equivocator(fleet, chance)
            equivocator.begin()
            for node in (*hosts, a, b):
                settle(node)
            before = expect_equal(fleet, *SERVERS, limit=300)

            for link in between.values():
                link.cut()
            wait_for(lambda: not any(server.answer()["peers"][0]["connected"] for server in (a, b)), "they are parted")
            equivocator.part()
            for written in logs:
                written.write(range(chosen.changes))
            for _ in range(chosen.lies):
                equivocator.lie()
            for host in hosts:
                settle(host)
            # With whom gets them from a peer only.
            others = list(zip(logs, (b, a)))
            if any(written.are_held(other) for written, other in others):
                raise Failure("who can't be reached has all")
            received = [server.answer()["receivedBytes"] for server in (a, b)]

            for link in between.values():
                link.mend()
            wait_for(lambda: any(link.met for link in between.values()), "they meet")
            equivocator.come_back()
            lies = len(equivocator.told) + chosen.late_lies

            def have_all():
                if len(equivocator.told) < lies:
                    equivocator.lie()
                return all(written.are_held(other) for written, other in others) and len(equivocator.told) == lies

            wait_for(have_all, "each has the other's changes", 1_200, pause=0.1)
            equivocator.leave()
            contents = expect_equal(fleet, *SERVERS, limit=600)
            seconds = time.monotonic() - min(link.met for link in between.values() if link.met)
            for server in (a, b):
                settle(server)
            equivocator.check(contents)
            for written in logs:
                written.check(contents)
            told = sum(len(data) for sides in equivocator.told.values() for data in sides)
            print(
                f"seed {chosen.seed}: {chosen.changes} changes on each side of a partition of files that were "
                f"{len(before)} before, {len(equivocator.told)} files of which each side was told something else ({told} "
                f"bytes), {chosen.late_lies} of them while they met: equal {seconds:.1f} s after they were connected, "
                f"{sum(link.bytes for link in between.values())} bytes on the wire, payload received "
                + ", ".join(f"{server.name} {server.answer()['receivedBytes'] - began}" for server, began in zip((a, b), received)),
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--lies", type=int, default=5, help="files of which each side is told something else while parted")
    parser.add_argument("--late-lies", type=int, default=5, help="the same, while they meet")
    parser.add_argument("--image", action="store_true")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1 << 20))
    run(parser.parse_args())
