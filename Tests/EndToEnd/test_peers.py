#!/usr/bin/python3
"""G4, M3: servers that can reach each other end with equal sets, whoever delivered what where."""

import json
import os
import shutil
import unittest

from harness import Fleet, sha256, strings, wait_for
from peer import Closed, Peer


class Peers(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enterContext(Fleet())

    def start(self, *nodes):
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_ready()

    def host(self, name, servers):
        logs = self.fleet.path("var", name)
        os.makedirs(logs)
        return self.fleet.host(name, [f"{logs}/*.log"], servers), logs

    def expect_equal(self, *servers, limit=30):
        """All hold the same, and it isn't nothing; each plain file has the same bytes."""
        wait_for(
            lambda: len(found := [strings(self.fleet, server) for server in servers]) and found[0]
            and all(other == found[0] for other in found[1:]),
            f"{servers} hold the same", limit,
        )
        digests = []
        for server in servers:
            rows = [row for row in self.fleet.files(server) if row["durable"]]
            wait_for(
                lambda: all(os.path.getsize(self.fleet.stored(server, row)) == row["durable"] - row["start"]
                            if "start" in row else os.path.getsize(self.fleet.stored(server, row)) == row["durable"]
                            for row in rows), f"{server}'s plain files are complete", limit)
            digests.append({(row["host"], row["file"], row["root"]): sha256(self.fleet.stored(server, row)) for row in rows})
        for other in digests[1:]:
            self.assertEqual(other, digests[0])
        self.expect_digests(*servers, limit=limit)

    def expect_digests(self, *servers, limit):
        """M2: the same line of each, computed from the rows; and each node says so of itself and of its peers."""
        lines = {self.fleet.digest(server) for server in servers}
        self.assertEqual(len(lines), 1, lines)
        digest = lines.pop().split()[0]

        def says(server):
            status = self.fleet.nodes[server].status()
            peers = [peer for peer in status["peers"] if peer["name"] in servers]
            return status["digest"] == digest and all(peer["equal"] and peer["digest"] == digest for peer in peers)

        for server in servers:
            wait_for(lambda: says(server), f"{server} and its peers have the digest {digest}", limit)

    def test_G4_what_a_host_delivers_to_one_of_three_is_on_all(self):
        a, b, c = self.fleet.servers("logs-a", "logs-b", "logs-c")
        host, logs = self.host("web1", ["logs-a"])
        self.start(a, b, c, host)
        for name, count in [("small", 1), ("lines", 2000), ("empty", 0)]:
            with open(f"{logs}/{name}.log", "w") as log:
                for number in range(count):
                    log.write(f"{name} {number}\n")
        with open(f"{logs}/large.log", "wb") as log:
            log.write(os.urandom(40 << 20))
        self.assertEqual(host.settled(60).returncode, 0)
        self.expect_equal("logs-a", "logs-b", "logs-c", limit=60)
        with open(f"{logs}/small.log", "a") as log:
            log.write("one more\n")
        self.assertEqual(host.settled(60).returncode, 0)
        for server in (a, b, c):
            self.assertEqual(server.settled(60).returncode, 0)
        # Said of what is held already: nothing is waited for.
        held = [strings(self.fleet, name) for name in ("logs-a", "logs-b", "logs-c")]
        self.assertTrue(held[0] and held[0] == held[1] == held[2], held)
        self.expect_equal("logs-a", "logs-b", "logs-c")
        c.stop()
        self.assertNotEqual(a.settled(1).returncode, 0, "settled while a peer is away")
        self.start(c)
        for server in (a, b, c):
            self.assertEqual(server.settled(60).returncode, 0)
            for peer in server.status()["peers"]:
                self.assertTrue(peer["connected"], peer)

    def test_M3_a_server_that_is_replaced_empty_gets_all_from_its_peer_while_hosts_are_off(self):
        a, b = self.fleet.servers("logs-a", "logs-b")
        host, logs = self.host("web1", ["logs-a", "logs-b"])
        self.start(a, b, host)
        for number in range(300):
            with open(f"{logs}/{number}.log", "w") as log:
                log.write(f"line of {number}\n" * (1 + number % 7))
        self.assertEqual(host.settled(60).returncode, 0)
        host.stop()
        b.kill()
        shutil.rmtree(self.fleet.path("logs-b", "data"))
        shutil.rmtree(self.fleet.logs("logs-b"))
        self.start(b)
        self.expect_equal("logs-a", "logs-b", limit=60)
        self.assertEqual(len(strings(self.fleet, "logs-b")), 300)

    def test_M3_two_that_were_apart_end_equal(self):
        a, b = self.fleet.servers("logs-a", "logs-b")
        one, ones = self.host("web1", ["logs-a"])
        two, twos = self.host("web2", ["logs-b"])
        # Never both at a time.
        for server, host, logs in [(a, one, ones), (b, two, twos)]:
            self.start(server, host)
            for number in range(50):
                with open(f"{logs}/{number}.log", "w") as log:
                    log.write(f"{number} of {logs}\n")
            self.assertEqual(host.settled(60).returncode, 0)
            host.stop()
            server.kill()
        self.start(a, b)
        self.expect_equal("logs-a", "logs-b", limit=60)
        self.assertEqual(len(strings(self.fleet, "logs-a")), 100)

    def test_W6_who_is_not_listed_gets_nothing(self):
        # logs-b lists logs-a, and isn't listed there.
        self.fleet.ports["logs-a"] = 0
        (a,) = self.fleet.servers("logs-a")
        b = self.fleet.server("logs-b", ["logs-a"])
        host, logs = self.host("web1", ["logs-a"])
        self.start(a, b, host)
        with open(f"{logs}/a.log", "w") as log:
            log.write("a line\n")
        self.assertEqual(host.settled(60).returncode, 0)

        def refused():
            peer = b.status()["peers"][0]
            return not peer["connected"] and "isn't among the peers" in (peer["lastError"] or "")

        wait_for(refused, "logs-b says why")
        self.assertEqual(strings(self.fleet, "logs-b"), {})


if __name__ == "__main__":
    unittest.main()
