"""G5, W3, W5: a client with valid keys that lies changes nothing, is reported, and nobody else notices."""

import os
import random
import struct
import unittest
import uuid

from harness import Fleet, wait_for
from peer import Closed, Peer, TYPES


class Hostile(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enterContext(Fleet())
        self.server = self.fleet.server("logs-a").start()
        for name in ("web1", "web2"):
            self.fleet.issue(name, "host")
        self.server.wait_ready()
        # The one who must not notice: an honest host that keeps delivering.
        self.honest = Peer(self.fleet, "logs-a", "web2")
        self.addCleanup(self.honest.close)
        self.assertEqual(self.honest.hello()[0], "welcome")
        self.data = random.Random(5).randbytes(300_000)
        self.honest_file = self.honest.deliver(b"/var/log/honest.log", self.data)

    def snapshot(self):
        """What is held, once what was acknowledged from the store's log has been folded into its plain file."""

        def folded():
            rows = self.fleet.files("logs-a")
            return all(os.path.getsize(self.fleet.stored("logs-a", row)) == row["durable"] for row in rows)

        wait_for(folded, "plain files hold what is durable", 10)
        return sorted(self.fleet.held("logs-a", "web1") + self.fleet.held("logs-a", "web2"))

    def assert_honest_host_is_served(self):
        self.honest.deliver(b"/var/log/after.log", os.urandom(1000))
        self.assertTrue(self.server.is_running())

    def assert_reported(self, *words):
        def found():
            with open(self.server.log, errors="replace") as log:
                return any(all(word in line for word in words) for line in log)

        wait_for(found, f"a log line with {words}", 10)

    def test_W5_writing_under_another_hosts_name_is_refused_and_reported(self):
        before = self.snapshot()
        liar = Peer(self.fleet, "logs-a", "web2", certificate="web1")
        self.addCleanup(liar.close)
        try:
            answer, _ = liar.hello()
            self.assertIn(answer, ("goodbye", "refusal"))
        except Closed:
            pass
        self.assert_reported("web2", "web1")
        self.assertEqual(self.snapshot(), before)
        self.assert_honest_host_is_served()

    def test_W5_a_journal_of_another_host_is_refused(self):
        before = self.snapshot()
        liar = Peer(self.fleet, "logs-a", "web1")
        self.addCleanup(liar.close)
        self.assertEqual(liar.hello()[0], "welcome")
        liar.host = b"web2"
        record = liar.opened()
        liar.host = b"web1"
        liar.send_records([record])
        self.assertFalse(liar.records_durable())
        self.assertEqual(self.snapshot(), before)
        self.assert_honest_host_is_served()

    def test_G5_other_bytes_for_a_held_range_change_nothing_and_are_reported(self):
        first = Peer(self.fleet, "logs-a", "web1")
        self.assertEqual(first.hello()[0], "welcome")
        data = random.Random(6).randbytes(150_000)
        file = first.deliver(b"/var/log/app.log", data)
        first.close()
        before = self.snapshot()
        liar = Peer(
            self.fleet, "logs-a", "web1", journal=first.journal, key=first.key, records=list(first.records)
        )
        self.addCleanup(liar.close)
        self.assertEqual(liar.hello()[0], "welcome")
        other = bytes([data[0] ^ 1]) + data[1:]
        longer = other + b"and more"
        liar.send_records([liar.appended(file, len(data), b"and more", longer)])
        self.assertTrue(liar.records_durable())
        self.assertEqual(liar.resume(file), len(data))
        liar.send_payload(file, 0, other[:100_000])
        self.assertNotEqual(liar.payload_durable(file, len(longer)), 0)
        self.assert_reported("web1", str(uuid.UUID(bytes=file)))
        self.assertEqual(self.snapshot(), before)
        self.assert_honest_host_is_served()

    def test_M1_another_history_of_a_held_journal_is_refused(self):
        first = Peer(self.fleet, "logs-a", "web1")
        self.assertEqual(first.hello()[0], "welcome")
        first.deliver(b"/var/log/app.log", b"true\n")
        first.close()
        before = self.snapshot()
        liar = Peer(self.fleet, "logs-a", "web1", journal=first.journal, key=first.key, records=first.records[:1])
        self.addCleanup(liar.close)
        self.assertEqual(liar.hello()[0], "welcome")
        liar.send_records([liar.born(os.urandom(16), b"/var/log/other.log")])
        self.assertFalse(liar.records_durable())
        self.assertEqual(self.snapshot(), before)
        self.assert_honest_host_is_served()

    def test_W3_bytes_that_do_not_meet_the_signed_root_are_refused(self):
        liar = Peer(self.fleet, "logs-a", "web1")
        self.addCleanup(liar.close)
        self.assertEqual(liar.hello()[0], "welcome")
        file = os.urandom(16)
        liar.send_records([liar.opened(), liar.born(file, b"/var/log/x.log"), liar.appended(file, 0, b"true", b"true")])
        self.assertTrue(liar.records_durable())
        self.assertEqual(liar.resume(file), 0)
        liar.send_payload(file, 0, b"lie!")
        self.assertEqual(liar.payload_durable(file, 4), 1)
        self.assertEqual([size for _, size, _ in self.fleet.held("logs-a", "web1")], [0])
        liar.resume(file)
        liar.send_payload(file, 0, b"true")
        self.assertEqual(liar.payload_durable(file, 4), 0, "the true bytes are still welcome")
        self.assert_honest_host_is_served()

    def test_P1_names_cannot_leave_the_root(self):
        liar = Peer(self.fleet, "logs-a", "web1")
        self.addCleanup(liar.close)
        self.assertEqual(liar.hello()[0], "welcome")
        for path in (b"/../../../../etc/escape", b"/var/../../x", b"relative", b"//", b"/a/./b"):
            try:
                liar.deliver(path, b"escape " + path)
            except (AssertionError, Closed, TimeoutError):
                liar.close()
                liar = Peer(self.fleet, "logs-a", "web1")
                self.addCleanup(liar.close)
                self.assertEqual(liar.hello()[0], "welcome")
        root = os.path.realpath(self.fleet.logs("logs-a"))
        for _, size, path in self.fleet.held("logs-a", "web1"):
            self.assertTrue(os.path.realpath(path).startswith(os.path.join(root, "files", "web1").encode()), path)
        self.assertFalse(os.path.exists("/etc/escape"))
        self.assert_honest_host_is_served()

    def test_P6_one_who_never_reads_is_no_longer_read(self):
        """Its answers would otherwise wait in the server's memory, without bound."""

        def resident():
            with open(f"/proc/{self.server.process.pid}/status") as status:
                return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))

        before = resident()
        liar = Peer(self.fleet, "logs-a", "web1")
        self.addCleanup(liar.close)
        self.assertEqual(liar.hello()[0], "welcome")
        pings = b"".join(struct.pack(">IBQ", 8, TYPES["ping"], nonce) for nonce in range(5_000))
        liar.socket.settimeout(2)
        with self.assertRaises(Closed, msg="everything was read"):
            for _ in range((128 << 20) // len(pings)):
                liar.send_raw(pings)
        self.assertLess(resident() - before, 32 << 20)
        self.assert_honest_host_is_served()

    def test_garbage_at_any_frame_boundary_is_cut_off(self):
        before = self.snapshot()
        chance = random.Random(9)
        garbage = [
            b"\xff" * 64,
            b"GET / HTTP/1.1\r\n\r\n",
            struct.pack(">IB", 0xFFFFFFFF, TYPES["payload"]),
            struct.pack(">IB", 0, 0),
            struct.pack(">IB", 40, 200) + b"x" * 40,
            struct.pack(">IB", 100, TYPES["records"]) + b"\x00" * 100,
            *[chance.randbytes(chance.randrange(5, 400)) for _ in range(30)],
        ]
        for stage in ("connected", "welcomed", "recorded", "delivered"):
            for piece in garbage:
                liar = Peer(self.fleet, "logs-a", "web1")
                if stage != "connected":
                    self.assertEqual(liar.hello()[0], "welcome")
                if stage in ("recorded", "delivered"):
                    liar.send_records([liar.opened()])
                    self.assertTrue(liar.records_durable())
                if stage == "delivered":
                    file = os.urandom(16)
                    liar.send_records([liar.born(file, b"/g.log"), liar.appended(file, 0, b"data", b"data")])
                    self.assertTrue(liar.records_durable())
                    liar.resume(file)
                    liar.send_payload(file, 0, b"da")
                with self.assertRaises(Closed, msg=f"{piece[:20]} when {stage}"):
                    liar.send_raw(piece + b"\xfe" * 64)
                    while True:
                        liar.read(limit=10)
                liar.close()
        after = [entry for entry in self.snapshot() if b"g.log" not in entry[2]]
        self.assertEqual(after, before)
        self.assert_honest_host_is_served()


if __name__ == "__main__":
    unittest.main(verbosity=2)
