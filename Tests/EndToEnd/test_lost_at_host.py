#!/usr/bin/python3
"""G4, G7, J4: what a host can't give to a server any more, since it was truncated or deleted there, that server gets from
its peer, and the host's `--settled` is 0 then without `--allow-gaps`. Until then host and servers say who lacks what.
"""

import os
import unittest

from harness import Fleet, expect_equal, free_port, sha256, start, wait_for
from link import links

SERVERS = ["logs-a", "logs-b"]
FIRST, MORE, ANEW = b"first\n", b"more that logs-b lacks\n" * 1_500, b"anew\n"
WHOLE = len(FIRST) + len(MORE)


class LostAtHost(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enterContext(Fleet())
        self.fleet.ports.update({name: free_port() for name in SERVERS})
        self.between = self.enterContext(links(self.fleet, SERVERS))
        self.a, self.b = (self.fleet.server(name, [peer for peer in SERVERS if peer != name]) for name in SERVERS)
        # In front of logs-b there is a second one, on the way from its host.
        self.to_host = self.enterContext(links(self.fleet, ["logs-b"]))["logs-b"]
        self.logs = self.fleet.path("var")
        os.makedirs(self.logs)
        self.log = {name: os.path.join(self.logs, f"{name}.log") for name in ("truncated", "deleted", "kept")}

    def follow(self, *servers):
        self.host = self.fleet.host("web1", [f"{self.logs}/*.log"], servers)
        return self.host

    def write(self, text, *names):
        for name in names or self.log:
            with open(self.log[name], "ab") as log:
                log.write(text)

    def part(self):
        """The servers can't reach each other."""
        for link in self.between.values():
            link.cut()

    def meet(self):
        for link in self.between.values():
            link.mend()

    def lose(self):
        """What only logs-a has: one log is truncated in place and written on, one is deleted while the host runs, which lets
        go of it as it ends. Returns what the host said before that."""
        self.write(MORE)
        wait_for(lambda: sorted(self.held("logs-a")) == [WHOLE] * 3, "logs-a has all")
        wait_for(lambda: self.host.answer()["servers"][0]["lagBytes"] == 0, "the host knows it")
        os.truncate(self.log["truncated"], 0)
        self.write(ANEW, "truncated")
        os.unlink(self.log["deleted"])
        wait_for(lambda: sorted(self.held("logs-a")) == [len(ANEW)] + [WHOLE] * 3, "logs-a has what was written anew")
        said = self.host.answer()
        self.host.stop()
        return said

    def held(self, server):
        return [row["durable"] for row in self.fleet.files(server)]

    def gaps(self):
        """{(log, reason): (from, to, who lacks it)}, as the host says."""
        return {
            (os.path.basename(gap["path"]), gap["reason"]): (gap["from"], gap["to"], gap["lacking"])
            for gap in self.host.answer()["gaps"]
        }

    def expect_healed(self):
        """Each server has each byte that was ever written, and says so."""
        found = expect_equal(self.fleet, *SERVERS)
        self.assertEqual(sorted(length for held in found.values() for length, _ in held), [len(ANEW)] + [WHOLE] * 3)
        self.assertEqual(sum((WHOLE, sha256(self.log["kept"])) in held for held in found.values()), 3)
        for server in (self.a, self.b):
            self.assertEqual(server.settled(10).returncode, 0)

    def expect_settled(self, limit=10):
        """No gap is left, the servers lack nothing, and the host says so without `--allow-gaps`."""
        wait_for(lambda: not self.gaps(), "the host has no gap any more", limit)
        done = self.host.settled(limit)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for server in (self.a, self.b):
            if server.is_running():
                self.assertEqual([host["lackingExtents"] for host in server.answer()["hosts"]], [0])

    def expect_unsettled(self, *words):
        done = self.host.settled(1)
        self.assertEqual(done.returncode, 3, done.stdout)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_G4_while_a_server_is_down(self):
        start(self.a, self.b, self.follow(*SERVERS))
        self.write(FIRST)
        self.assertEqual(self.host.settled(20).returncode, 0)
        self.b.stop()
        status = self.lose()
        self.assertEqual((status["files"]["held"], len(status["gaps"])), (1, 1))
        start(self.host)
        # Of the deleted one nobody knows yet whether logs-b lacks it: no gap before that has said so.
        self.assertEqual(self.gaps(), {("truncated.log", "truncated"): (len(FIRST), WHOLE, ["logs-b"])})
        self.expect_unsettled(
            f"gap: {self.log['truncated']}: {len(FIRST)} ..< {WHOLE}, truncated, lacking on logs-b",
            f"logs-b: {self.log['deleted']}: {len(FIRST)} of {WHOLE} durable (no connection)")
        (peer,) = self.a.answer()["peers"]
        self.assertEqual((peer["connected"], peer["equal"]), (False, None))
        # It gets all from its peer before it hears of its host.
        self.to_host.cut()
        start(self.b)
        self.expect_healed()
        self.to_host.mend()
        wait_for(lambda: all(server["connected"] for server in self.host.answer()["servers"]), "the host is connected")
        self.expect_settled()
        self.assertNotIn(("deleted.log", "vanished"), self.gaps())

    def test_J4_while_a_server_is_cut_off_from_its_peer(self):
        self.part()
        start(self.a, self.b, self.follow(*SERVERS))
        self.write(FIRST)
        self.assertEqual(self.host.settled(20).returncode, 0)
        self.b.stop()
        self.lose()
        start(self.b, self.host)
        lost = (len(FIRST), WHOLE, ["logs-b"])
        gaps = {("truncated.log", "truncated"): lost, ("deleted.log", "vanished"): lost}
        wait_for(lambda: self.gaps() == gaps, "the host has recorded both gaps")
        wait_for(lambda: sorted(self.held("logs-b")) == [len(ANEW)] + [len(FIRST)] * 2 + [WHOLE], "logs-b has the rest")
        self.assertEqual(self.host.settled(10, allow_gaps=True).returncode, 0)
        self.expect_unsettled(*(
            f"gap: {self.log[log]}: {len(FIRST)} ..< {WHOLE}, {reason}, lacking on logs-b"
            for log, reason in (("truncated", "truncated"), ("deleted", "vanished"))))
        # Of all records: how much there is of each file, and how much of it is here.
        rows = {(row["durable"], row["length"], row["gapFrom"]) for row in self.fleet.files("logs-b")}
        self.assertIn((len(FIRST), WHOLE, len(FIRST)), rows)
        self.assertEqual({row["durable"] == row["length"] for row in self.fleet.files("logs-a")}, {True})
        self.assertEqual([server.answer()["settled"] for server in (self.a, self.b)], [False, False])
        self.assertEqual([server.answer()["hosts"][0]["lackingExtents"] for server in (self.a, self.b)], [0, 2])
        self.assertEqual(self.b.settled(1).returncode, 3, "settled while its peer is away")
        self.meet()
        self.assertEqual(self.host.settled(30).returncode, 0, "doesn't wait until the gaps are filled")
        self.expect_healed()
        self.expect_settled()

    def test_G4_before_a_server_is_added(self):
        start(self.a, self.follow("logs-a"))
        self.write(FIRST)
        self.lose()
        start(self.host)
        self.expect_settled()
        self.host.stop()
        self.part()
        start(self.b, self.follow(*SERVERS))
        wait_for(lambda: sorted(self.held("logs-b"))[-2:] == [len(ANEW), WHOLE], "logs-b has what its host still has")
        wait_for(lambda: self.host.answer()["servers"][1]["lackingFiles"] == 2, "logs-b has said that it lacks two")
        self.expect_unsettled("logs-b: files that ended: not durable (it hasn't all of 2 or more files that ended before it "
                              "was named, or that it lost: its peers have to bring them)")
        self.assertEqual(self.host.settled(10, allow_gaps=True).returncode, 0)
        self.meet()
        self.expect_healed()
        self.expect_settled()


if __name__ == "__main__":
    unittest.main()
