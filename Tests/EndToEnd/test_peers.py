#!/usr/bin/python3
"""G4, M3: servers that can reach each other end with equal sets, whoever delivered what where."""

import os
import shutil
import unittest

from harness import Fleet, expect_equal, start, strings, wait_for


class Peers(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enterContext(Fleet())

    def host(self, name, servers):
        logs = self.fleet.path("var", name)
        os.makedirs(logs)
        return self.fleet.host(name, [f"{logs}/*.log"], servers), logs

    def test_G4_what_a_host_delivers_to_one_of_three_is_on_all(self):
        a, b, c = self.fleet.servers("logs-a", "logs-b", "logs-c")
        host, logs = self.host("web1", ["logs-a"])
        start(a, b, c, host)
        for name, count in [("small", 1), ("lines", 2000), ("empty", 0)]:
            with open(f"{logs}/{name}.log", "w") as log:
                for number in range(count):
                    log.write(f"{name} {number}\n")
        with open(f"{logs}/large.log", "wb") as log:
            log.write(os.urandom(40 << 20))
        self.assertEqual(host.settled(60).returncode, 0)
        expect_equal(self.fleet, "logs-a", "logs-b", "logs-c", limit=60)
        with open(f"{logs}/small.log", "a") as log:
            log.write("one more\n")
        self.assertEqual(host.settled(60).returncode, 0)
        for server in (a, b, c):
            self.assertEqual(server.settled(60).returncode, 0)
        # Said of what is held already: nothing is waited for.
        held = [strings(self.fleet, name) for name in ("logs-a", "logs-b", "logs-c")]
        self.assertTrue(held[0] and held[0] == held[1] == held[2], held)
        expect_equal(self.fleet, "logs-a", "logs-b", "logs-c")
        c.stop()
        self.assertNotEqual(a.settled(1).returncode, 0, "settled while a peer is away")
        self.assertEqual({peer["name"]: peer["lagSeconds"] > 0 for peer in a.status()["peers"]}, {"logs-b": False, "logs-c": True})
        start(c)
        for server in (a, b, c):
            self.assertEqual(server.settled(60).returncode, 0)
            for peer in server.status()["peers"]:
                self.assertEqual((peer["connected"], peer["lagSeconds"]), (True, 0), peer)

    def test_M3_a_server_that_is_replaced_empty_gets_all_from_its_peer_while_hosts_are_off(self):
        a, b = self.fleet.servers("logs-a", "logs-b")
        host, logs = self.host("web1", ["logs-a", "logs-b"])
        start(a, b, host)
        for number in range(300):
            with open(f"{logs}/{number}.log", "w") as log:
                log.write(f"line of {number}\n" * (1 + number % 7))
        self.assertEqual(host.settled(60).returncode, 0)
        host.stop()
        b.kill()
        shutil.rmtree(self.fleet.path("logs-b", "data"))
        shutil.rmtree(self.fleet.logs("logs-b"))
        start(b)
        expect_equal(self.fleet, "logs-a", "logs-b", limit=60)
        self.assertEqual(len(strings(self.fleet, "logs-b")), 300)

    def test_P2_a_line_comes_while_a_backlog_of_its_host_is_on_its_way(self):
        a, b = self.fleet.servers("logs-a", "logs-b")
        host, logs = self.host("web1", ["logs-a"])
        start(a, b, host)
        with open(f"{logs}/lines.log", "w") as log:
            log.write("first\n")
        self.assertEqual(host.settled(60).returncode, 0)
        expect_equal(self.fleet, "logs-a", "logs-b")
        b.kill()
        chunk, chunks = os.urandom(1 << 20), 300
        with open(f"{logs}/large.log", "wb") as log:
            for _ in range(chunks):
                log.write(chunk)
        self.assertEqual(host.settled(60).returncode, 0)
        b.start()

        def length(name):
            """Of the plain file on the server that gets it from its peer; 0: there is none."""
            top = os.path.join(self.fleet.logs("logs-b"), "files", "web1", logs.lstrip("/"))
            return sum(os.path.getsize(f"{top}/{found}") for found in os.listdir(top) if found.startswith(f"{name}@"))

        wait_for(lambda: length("large.log") > 0, "the backlog is on its way")
        with open(f"{logs}/lines.log", "a") as log:
            log.write("second\n")
        wait_for(lambda: length("lines.log") == len("first\nsecond\n"), "the line is there")
        self.assertLess(length("large.log"), chunks << 19, "the line came behind the backlog")
        expect_equal(self.fleet, "logs-a", "logs-b", limit=60)

    def test_M3_two_that_were_apart_end_equal(self):
        a, b = self.fleet.servers("logs-a", "logs-b")
        one, ones = self.host("web1", ["logs-a"])
        two, twos = self.host("web2", ["logs-b"])
        # Never both at a time.
        for server, host, logs in [(a, one, ones), (b, two, twos)]:
            start(server, host)
            for number in range(50):
                with open(f"{logs}/{number}.log", "w") as log:
                    log.write(f"{number} of {logs}\n")
            self.assertEqual(host.settled(60).returncode, 0)
            host.stop()
            server.kill()
        start(a, b)
        expect_equal(self.fleet, "logs-a", "logs-b", limit=60)
        self.assertEqual(len(strings(self.fleet, "logs-a")), 100)

    def test_W6_who_is_not_listed_gets_nothing(self):
        # logs-b lists logs-a, and isn't listed there.
        self.fleet.ports["logs-a"] = 0
        (a,) = self.fleet.servers("logs-a")
        b = self.fleet.server("logs-b", ["logs-a"])
        host, logs = self.host("web1", ["logs-a"])
        start(a, b, host)
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
