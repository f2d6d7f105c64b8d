#!/usr/bin/python3
"""W3, M1: other bytes for a held range are kept beside it, whoever says so and whatever is killed meanwhile."""

import hashlib
import os
import random
import shutil
import unittest
import uuid

from harness import Fleet, wait_for
from peer import Closed, Peer


def digest(bytes):
    """What is compared and, where it differs, printed: a list of whole strings takes minutes to print."""
    return (len(bytes), hashlib.sha256(bytes).hexdigest())


class Branches(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enterContext(Fleet())
        self.server = self.fleet.server("logs-a").start()
        self.fleet.issue("web1", "host")
        self.server.wait_ready()

    def row(self, file=None):
        rows = [row for row in self.fleet.files("logs-a", "web1") if file is None or row["file"] == str(uuid.UUID(bytes=file))]
        self.assertEqual(len(rows), 1, rows)
        return rows[0]

    def contents(self, row):
        """The bytes of each string, out of plain files, once the log is folded."""
        paths = [self.fleet.stored("logs-a", row)] + [self.fleet.stored("logs-a", branch) for branch in row["branches"]]
        sizes = [row["durable"]] + [branch["length"] - branch["offset"] for branch in row["branches"]]
        wait_for(lambda: [os.path.getsize(path) for path in paths] == sizes, "plain files hold what is durable", 10)
        bytes_of = []
        for path in paths:
            with open(path, "rb") as file:
                bytes_of.append(file.read())
        whole = {row["stored"]: bytes_of[0]}
        for branch, own in zip(row["branches"], bytes_of[1:]):
            whole[branch["stored"]] = whole[branch["base"]][: branch["offset"]] + own
        return [digest(bytes) for bytes in whole.values()]

    def reports(self):
        with open(self.server.log, errors="replace") as log:
            return [line for line in log if "both are kept" in line]

    def clone(self, first, file, data):
        """Another machine with the first one's keys, and a journal of its own."""
        clone = Peer(self.fleet, "logs-a", "web1", key=first.key)
        self.addCleanup(lambda: clone.close())
        self.assertEqual(clone.hello()[0], "welcome")
        clone.send_records([clone.opened(), clone.born(file, b"/var/log/app.log"), clone.appended(file, 0, data, data)])
        self.assertTrue(clone.records_durable())
        return clone

    def test_M1_a_clones_bytes_are_held_beside_the_first_ones_after_kills(self):
        source = random.Random(7)
        shared = source.randbytes(400_000)
        first = Peer(self.fleet, "logs-a", "web1")
        self.assertEqual(first.hello()[0], "welcome")
        one = shared + source.randbytes(300_000)
        file = first.deliver(b"/var/log/app.log", one)
        two = shared + source.randbytes(1_500_000)
        three = source.randbytes(70_000)
        for number, data in enumerate((two, three)):
            clone = self.clone(first, file, data)
            for attempt in range(6):
                try:
                    if attempt < 3:
                        # Killed at another place each time: along the first string, where it leaves it, beyond.
                        clone.strings(file)
                        clone.extend(file)
                        clone.send_range(file, data[: (attempt + 1) * len(data) // 3], 0)
                        self.server.kill()
                        self.server.start().wait_ready()
                        raise Closed("killed")
                    self.assertTrue(clone.deliver_beside(file, data))
                    break
                except Closed:
                    clone.close()
                    clone.connect(self.fleet, "logs-a")
                    self.assertEqual(clone.hello()[0], "welcome")
            row = self.row(file)
            self.assertEqual(self.contents(row), [digest(data) for data in (one, two, three)][: number + 2])
            # Said once, or once more where a kill came between what was said and its commit.
            self.assertIn(len(self.reports()), range(number + 1, number + 3))
        self.assertEqual([branch["offset"] for branch in row["branches"]], [393_216, 0])
        self.assertEqual(row["durable"], len(one))
        self.assertEqual(self.server.status()["branches"], [{"host": "web1", "count": 2}])
        # Each goes on where it is, whatever the others have.
        first.close()
        first.connect(self.fleet, "logs-a")
        self.assertEqual(first.hello()[0], "welcome")
        one += b"and more of the first\n"
        first.send_records([first.appended(file, len(one) - 22, b"and more of the first\n", one)])
        self.assertTrue(first.deliver_beside(file, one))
        two += b"and of the second\n"
        second = self.clone(first, file, two)
        self.assertTrue(second.deliver_beside(file, two))
        self.assertEqual(self.contents(self.row(file)), [digest(data) for data in (one, two, three)])

    def host_with_its_log(self, name, text):
        folder = self.fleet.path("var")
        os.makedirs(folder, exist_ok=True)
        log = os.path.join(folder, name)
        with open(log, "wb") as file:
            file.write(text)
        host = self.fleet.host("web1", [f"{folder}/*.log"], ["logs-a"])
        return host, log

    def test_W3_a_file_that_changed_while_its_journal_was_lost_is_delivered_beside(self):
        source = random.Random(8)
        old = source.randbytes(200_000)
        for number, new in enumerate((old[:150_000] + source.randbytes(90_000), source.randbytes(50_000), old[:70_000])):
            with self.subTest(number):
                host, log = self.host_with_its_log(f"app-{number}.log", old)
                inode = os.stat(log).st_ino
                host.start().wait_ready()
                self.assertTrue(host.settled(30))
                host.stop()
                # The key stays, the journal is gone; the inode is the same, and so is its uuid.
                shutil.rmtree(self.fleet.path("web1", "data", "journal"))
                with open(log, "r+b") as file:
                    file.truncate(0)
                    file.write(new)
                self.assertEqual(os.stat(log).st_ino, inode)
                host.start().wait_ready()
                self.assertTrue(host.settled(30))
                host.stop()
                # By its name: an inode's number is used again at once.
                row = next(row for row in self.fleet.files("logs-a", "web1") if row["path"] == log)
                held = self.contents(row)
                self.assertEqual(held[0], digest(old))
                # What is the beginning of what is held is held.
                self.assertEqual(held[1:], [] if old.startswith(new) else [digest(new)])
                shutil.rmtree(self.fleet.path("web1", "data"))
                os.remove(log)


if __name__ == "__main__":
    unittest.main()
