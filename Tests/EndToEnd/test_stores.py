"""What happens to a server's stores: mounts below the log root, damage, readers that are killed or stopped, what an
operator does about it. G2, P3, P4, P5, W2."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
import unittest

from harness import BINARY, Failure, Fleet, compare_with_truth, wait_for


def crc32c(data):
    """Castagnoli, RFC 3720 B.4."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def version_row(kind, version):
    """Key and sealed value of the first row of a store (design/formats.md, Stored values)."""
    payload = bytes([kind]) + version.to_bytes(4, "big")
    return b"version\x01" + crc32c(b"version" + payload).to_bytes(4, "big") + payload


class Stores(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enterContext(Fleet())
        self.log = self.fleet.path("log")
        os.makedirs(self.log)
        self.server = self.fleet.server("logs-a")
        self.host = self.fleet.host("web1", [f"{self.log}/*.log*"], ["logs-a"])

    def write(self, name, text):
        with open(os.path.join(self.log, name), "ab") as file:
            file.write(text)

    def truth(self):
        return {name: os.path.join(self.log, name) for name in os.listdir(self.log)}

    def assert_settled_with_everything(self):
        done = self.host.settled(60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        compare_with_truth(self.fleet, "logs-a", "web1", self.truth())

    def start(self):
        self.server.start().wait_ready()
        self.host.start().wait_ready()

    # Mounts (G2, P4)

    def namespace(self, *mount_points):
        """Starts the server with mounts of its own."""
        script = "".join(f"mount -t tmpfs test '{point}' && " for point in mount_points) + 'exec "$@"'
        self.server.start(prefix=["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        try:
            self.server.wait_ready()
        except Failure:
            if "unshare" in self.server.tail() and "not permitted" in self.server.tail():
                self.skipTest("no right to mount")
            raise

    def mount(self, *arguments):
        subprocess.run(["nsenter", "-t", str(self.server.process.pid), "-m", *arguments], check=True)

    def waiting(self, text):
        def found():
            status = self.host.status()
            return status and [file["reason"] for file in status["waiting"] if text in file["reason"]]

        return wait_for(found, f"a file waits: {text}", 30)

    def test_nothing_is_stored_across_a_mount_below_the_log_root_P4(self):
        point = os.path.join(self.fleet.logs("logs-a"), "files", "web1")
        os.makedirs(point)
        self.namespace(point)
        self.write("a.log", b"one\n")
        self.host.start().wait_ready()
        reason = self.waiting(f"{point} is mounted below server.logs")[0]
        self.assertIn("unstorable", reason)
        self.assertNotEqual(self.host.settled(1).returncode, 0)
        self.assertTrue(any(point in alarm for alarm in self.server.status()["alarms"]), self.server.status())
        self.assertIn("nothing is stored across a mount", self.server.tail())
        self.mount("sh", "-c", f"test -z \"$(ls '{point}')\"")
        self.mount("umount", point)
        self.assert_settled_with_everything()
        wait_for(lambda: not self.server.status()["alarms"], "the alarm is gone", 30)

    def test_a_mount_that_comes_later_takes_nothing_and_loses_nothing_P4(self):
        point = os.path.join(self.fleet.logs("logs-a"), "files")
        self.namespace()
        self.write("a.log", b"one\n")
        self.host.start().wait_ready()
        self.assert_settled_with_everything()
        self.mount("mount", "-t", "tmpfs", "test", point)
        self.write("b.log", b"two\n")
        self.waiting(f"{point} is mounted below server.logs")
        self.mount("sh", "-c", f"test -z \"$(ls '{point}')\"")
        wait_for(lambda: any(point in alarm for alarm in self.server.status()["alarms"]), "an alarm", 30)
        self.mount("umount", point)
        self.assert_settled_with_everything()

    def test_the_log_root_may_be_a_mount_and_check_warns_of_others(self):
        root = self.fleet.logs("logs-a")
        os.makedirs(root)
        self.namespace(root)
        self.write("a.log", b"one\n")
        self.host.start().wait_ready()
        self.assertEqual(self.host.settled(30).returncode, 0)
        self.assertEqual(self.server.status()["alarms"], [])
        self.mount("mkdir", f"{root}/below")
        self.mount("mount", "-t", "tmpfs", "test", f"{root}/below")
        done = subprocess.run(
            ["nsenter", "-t", str(self.server.process.pid), "-m", BINARY, "check", "--config", self.server.config],
            capture_output=True, text=True, timeout=60,
        )
        self.assertIn(f"warn  server.logs: {root}/below is mounted below server.logs", done.stdout)

    # Plain files that are not where they should be (P3)

    def test_a_removed_plain_file_is_refused_as_what_it_is_and_heals(self):
        self.write("a.log", b"one\n")
        self.start()
        self.assert_settled_with_everything()
        stored = self.fleet.stored("logs-a", self.fleet.files("logs-a")[0])
        shutil.copy2(stored, stored + b".away")
        os.unlink(stored)
        # What was sent first rides inside the journal, and is only then found to have no file.
        self.write("a.log", b"two\n")
        wait_for(lambda: "code=unstorable" in self.server.tail(), "the server says it", 30)
        self.write("a.log", b"three\n")
        reason = self.waiting("somebody removed the plain file")[0]
        self.assertIn("unstorable", reason)
        self.assertNotIn("diskFull", reason)
        os.rename(stored + b".away", stored)
        self.assert_settled_with_everything()

    # Damage (P5)

    def copies(self):
        """Both stores, sound, with many rows: {data folder: what it lists}."""
        for number in range(60):
            self.write(f"{number}.log", b"%d\n" % number)
        self.start()
        self.assertEqual(self.host.settled(60).returncode, 0)
        for _ in range(5):
            for number in range(60):
                self.write(f"{number}.log", b"more %d\n" % number)
            self.assertEqual(self.host.settled(60).returncode, 0)
        self.host.stop()
        self.server.stop()
        return [self.fleet.path(name, "data") for name in ("web1", "logs-a")]

    @staticmethod
    def database(data):
        return next(os.path.join(at, "data.mdb") for at, _, names in os.walk(data) if "data.mdb" in names)

    def inspect(self, what, data):
        return subprocess.run(
            [BINARY, "inspect", what, "--data", data, "--json"], capture_output=True, timeout=60
        )

    def test_a_flipped_bit_anywhere_is_told_or_costs_nothing_P5(self):
        chance = random.Random(int(os.environ.get("NIMBUS_FLIPS", 8)))
        silent = []
        for data in self.copies():
            whole = {}
            for what in ("events", "files", "hosts"):
                done = self.inspect(what, data)
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                whole[what] = done.stdout
            self.assertGreater(whole["events"].count(b"\n"), 100)
            path = self.database(data)
            with open(path, "rb") as file:
                sound = file.read()
            # Everywhere, in the meta pages, and in rows of records.
            places = [chance.randrange(len(sound)) for _ in range(20)]
            places += [chance.randrange(16, 16 + 152) + 4096 * page for page in (0, 1) for _ in range(12)]
            places += [chance.choice([i for i in range(8192, len(sound)) if sound[i]]) for _ in range(20)]
            for place in places:
                bit = 1 << chance.randrange(8)
                with open(path, "r+b") as file:
                    file.seek(place)
                    file.write(bytes([sound[place] ^ bit]))
                for what in ("events", "files", "hosts"):
                    done = self.inspect(what, data)
                    self.assertIn(done.returncode, (0, 1), (place, bit, done.stderr))
                    if done.returncode == 0 and done.stdout != whole[what]:
                        silent.append((data, what, place, bit))
                    if done.returncode == 1:
                        self.assertTrue(done.stderr.startswith(b"nimbus-journal: "), done.stderr)
                with open(path, "r+b") as file:
                    file.seek(place)
                    file.write(sound[place : place + 1])
        self.assertEqual(silent, [])

    def test_a_store_that_lmdb_gives_up_on_is_told_in_a_sentence_P5(self):
        # The journal's records, the strings of the server: each table's root is said to be a meta page.
        for data, table in zip(self.copies(), (b"records", b"strings")):
            path = self.database(data)
            with open(path, "r+b") as file:
                content = bytearray(file.read())
                at = content.find(table)
                self.assertGreater(at, 0)
                while at >= 0:
                    # The last field of MDB_db (lmdb.h's md_root), which follows the name.
                    root = at + len(table) + 40
                    content[root : root + 8] = (1).to_bytes(8, "little")
                    at = content.find(table, root)
                file.seek(0)
                file.write(content)
            for what in ("events", "files", "hosts"):
                done = self.inspect(what, data)
                self.assertIn(done.returncode, (0, 1), done.stderr)
                if done.returncode == 1 or what == "files":
                    self.assertTrue(done.stderr.startswith(b"nimbus-journal: "), done.stderr)
                    self.assertIn(b"damaged", done.stderr)
                    self.assertNotIn(b"mdb.c", done.stderr.splitlines()[-1])

    def test_a_store_that_is_cut_off_is_told_at_once_and_at_the_start(self):
        data = self.copies()[1]
        path = os.path.join(data, "holdings", "data.mdb")
        with open(path, "r+b") as file:
            file.truncate(3 * 4096)
        done = self.inspect("files", data)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(b"damaged", done.stderr)
        self.server.start()
        wait_for(lambda: not self.server.is_running(), "a node with half a store ends")
        self.assertNotEqual(self.server.process.returncode, 0)
        self.assertIn("damaged", self.server.tail())
        self.assertIn("README, Troubleshooting", self.server.tail())

    # Stores of others (design/formats.md, LMDB tables)

    def store(self, node):
        return self.fleet.path(node.name, "data", {"web1": "journal", "logs-a": "holdings"}[node.name])

    def refused(self, node, *words):
        """A start, and `check`, refuse with these words, and change nothing."""
        path = os.path.join(self.store(node), "data.mdb")
        with open(path, "rb") as file:
            before = file.read()
        node.start()
        wait_for(lambda: not node.is_running(), "a node with a store that isn't its own ends")
        self.assertNotEqual(node.process.returncode, 0)
        node.process = None
        check = self.fleet.run("check", "--config", node.config, "--offline", check=False)
        self.assertNotEqual(check.returncode, 0)
        for word in words:
            self.assertIn(word, node.tail())
            self.assertIn(word, check.stdout + check.stderr)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), before)

    def test_a_store_of_another_version_is_refused_with_what_to_do(self):
        self.write("a.log", b"one\n" * 1_000)
        self.start()
        self.assert_settled_with_everything()
        for node, kind, promise in ((self.host, 1, "a new journal begins"), (self.server, 2, "hosts deliver again")):
            node.stop()
            store = self.store(node)
            with open(os.path.join(store, "data.mdb"), "rb") as file:
                ours = file.read()
            self.assertIn(version_row(kind, 2), ours)
            for version, whose in ((3, "a later release"), (1, "an earlier release")):
                with open(os.path.join(store, "data.mdb"), "wb") as file:
                    file.write(ours.replace(version_row(kind, 2), version_row(kind, version)))
                words = (f"{store} is a store of version {version}, from {whose}", f"move {store} away", promise)
                self.refused(node, *words)
                inspected = self.inspect("files", self.fleet.path(node.name, "data"))
                self.assertEqual(inspected.returncode, 1)
                for word in words:
                    self.assertIn(word.encode(), inspected.stderr)
            # As it says.
            os.rename(store, store + ".old")
            node.start().wait_ready()
        self.write("a.log", b"two\n")
        self.assertEqual(self.host.settled(60).returncode, 0)
        # What the old store knew of stays as it was, what came again stands beside it.
        stored = []
        for directory, _, names in os.walk(os.path.join(self.fleet.logs("logs-a"), "files")):
            for name in names:
                with open(os.path.join(directory, name), "rb") as file:
                    stored.append(file.read())
        self.assertEqual(sorted(stored), [b"one\n" * 1_000, b"one\n" * 1_000 + b"two\n"])

    def test_a_store_of_another_host_is_refused_with_what_to_do(self):
        self.start()
        self.assert_settled_with_everything()
        self.host.stop()
        self.server.stop()
        other = self.fleet.host("web2", [f"{self.log}/*.log*"], ["logs-a"])
        os.rename(self.fleet.path("web1", "data"), self.fleet.path("web2", "data"))
        words = (f"{self.fleet.path('web2', 'data')} holds the journal of web1, but node.name is web2", "of its own")
        other.start()
        wait_for(lambda: not other.is_running(), "a node with another's journal ends")
        other.process = None
        check = self.fleet.run("check", "--config", other.config, "--offline", check=False)
        self.assertNotEqual(check.returncode, 0)
        for word in words:
            self.assertIn(word, other.tail())
            self.assertIn(word, check.stdout + check.stderr)

    # Readers (P2)

    def size(self):
        return os.path.getsize(self.fleet.path("logs-a", "data", "holdings", "data.mdb"))

    def keep_writing(self, seconds):
        """Appends to all files, so that the server's rows change all the time; returns how much the store grew."""
        before = self.size()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for number in range(60):
                self.write(f"{number}.log", b"x" * 200 + b"\n")
            self.host.settled(10)
        return self.size() - before

    def test_a_killed_and_a_stopped_inspect_leave_the_store_its_room(self):
        for number in range(60):
            self.write(f"{number}.log", b"%d\n" % number)
        self.start()
        self.assertEqual(self.host.settled(60).returncode, 0)
        usual = self.keep_writing(4)
        chance = random.Random(3)
        for _ in range(20):
            for number in (signal.SIGKILL, signal.SIGSTOP):
                reader = subprocess.Popen(
                    [BINARY, "inspect", "files", "--config", self.server.config], stdout=subprocess.DEVNULL
                )
                self.addCleanup(reader.wait)
                self.addCleanup(reader.kill)
                # At any moment of its work.
                time.sleep(chance.uniform(0.01, 0.2))
                reader.send_signal(number)
        grown = self.keep_writing(4)
        self.assertLess(grown, 2 * usual + (8 << 20))
        self.assertFalse([alarm for alarm in self.server.status()["alarms"] if "grows" in alarm])

    # What the README says (Troubleshooting)

    def test_a_server_that_begins_anew_gets_everything_again_W2(self):
        for number in range(20):
            self.write(f"{number}.log", os.urandom(1_000 * number))
        self.write("large.log", os.urandom(3 << 20))
        self.start()
        self.assert_settled_with_everything()
        self.server.stop()
        with open(self.fleet.path("logs-a", "data", "holdings", "data.mdb"), "r+b") as file:
            content = bytearray(file.read())
            for place in range(8192, len(content), 97):
                content[place] ^= 0x10
            file.seek(0)
            file.write(content)
        self.server.start()
        wait_for(lambda: not self.server.is_running(), "a node with a damaged store ends")
        self.assertNotEqual(self.server.process.returncode, 0)
        said = self.server.tail()
        self.assertIn("damaged", said)
        self.assertIn(self.fleet.path("logs-a", "data"), said)
        self.server.process = None
        for directory in (self.fleet.path("logs-a", "data"), self.fleet.logs("logs-a")):
            os.rename(directory, directory + ".damaged")
        self.server.start().wait_ready()
        wait_for(lambda: self.host.status()["servers"][0]["connected"], "the host is connected again", 60)
        self.assert_settled_with_everything()

    def test_a_host_with_a_damaged_journal_begins_anew_and_goes_on_D3(self):
        self.write("a.log", b"one\n" * 1_000)
        self.start()
        self.assert_settled_with_everything()
        self.host.stop()
        with open(self.fleet.path("web1", "data", "journal", "data.mdb"), "r+b") as file:
            file.write(b"\0" * 8192)
        self.host.start()
        wait_for(lambda: not self.host.is_running(), "a node with a damaged journal ends")
        self.assertIn("move node.data away", self.host.tail())
        self.host.process = None
        os.rename(self.fleet.path("web1", "data"), self.fleet.path("web1", "damaged"))
        self.write("a.log", b"two\n")
        self.host.start().wait_ready()
        self.assert_settled_with_everything()


if __name__ == "__main__":
    unittest.main()
