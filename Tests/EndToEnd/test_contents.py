"""D4, D9, P1, S18: awkward sizes, bytes and names arrive intact; truncation while the node is down is noticed."""

import os
import random
import unittest

from harness import Fleet, compare_with_truth, sha256, wait_for


class Contents(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enterContext(Fleet())
        self.logs = self.fleet.path("var log")
        os.makedirs(self.logs)
        self.fleet.server("logs-a").start()
        self.fleet.server("logs-b").start()
        self.host = self.fleet.host("web1", [f"{self.logs}/**"], ["logs-a", "logs-b"])

    def settle(self, timeout=120):
        self.host.wait_ready()
        done = self.host.settled(timeout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def write(self, name, data, mode="wb"):
        path = os.path.join(self.logs.encode(), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, mode) as file:
            file.write(data)
        return path

    def test_sizes_bytes_and_names_arrive_intact(self):
        chance = random.Random(7)
        for size in (0, 1, 65_535, 65_536, 65_537, 131_072):
            self.write(b"size-%d.log" % size, chance.randbytes(size))
        self.write(b"big.bin", b"\0" * 1000 + chance.randbytes(200 << 20))
        self.write(b"nul.log", b"a\0b\0\0c\n" * 999 + b"no newline at the end")
        self.write(b"with space.log", b"space\n")
        self.write(b"with\nnewline.log", b"newline\n")
        self.write(b"not-utf8-\xff\xfe.log", b"latin\n")
        self.write(b"at@sign%40.log", b"separator\n")
        self.write(b"L" * 251 + b".log", b"long name\n")
        self.write(b"d" * 255 + b"/" + b"e" * 255 + b"/deep.log", b"deep\n")
        self.host.start()
        self.settle()
        for server in ("logs-a", "logs-b"):
            truth = {}
            for directory, _, names in os.walk(self.logs.encode()):
                truth.update({os.path.join(directory, name): os.path.join(directory, name) for name in names})
            compare_with_truth(self.fleet, server, "web1", truth)
            rows = self.fleet.files(server)
            self.assertEqual(len(rows), len(truth), "every file once, the empty one too")
            for row in rows:
                self.assertTrue(os.path.isfile(self.fleet.stored(server, row)), row)

    def test_D4_truncation_and_refill_while_down_at_leaf_multiples_is_noticed(self):
        chance = random.Random(8)
        old, new = {}, {}
        for size in (65_536, 131_072, 655_360):
            old[size] = chance.randbytes(size)
            self.write(b"refill-%d.log" % size, old[size])
        self.host.start()
        self.settle()
        self.host.stop()
        for size in old:
            new[size] = chance.randbytes(size)
            self.write(b"refill-%d.log" % size, new[size])
        self.host.start()
        self.settle()
        truth = {}
        for size in old:
            for label, data in (("old", old[size]), ("new", new[size])):
                path = self.fleet.path(f"{label}-{size}")
                with open(path, "wb") as file:
                    file.write(data)
                truth[f"{label} {size}"] = path
        for server in ("logs-a", "logs-b"):
            compare_with_truth(self.fleet, server, "web1", truth)

    def test_latest_points_to_the_newest(self):
        self.write(b"app.log", b"first\n")
        self.host.start()
        self.settle()
        os.rename(os.path.join(self.logs, "app.log"), os.path.join(self.logs, "app.log.1"))
        self.write(b"app.log", b"second\n")
        self.settle()
        link = os.path.join(self.fleet.logs("logs-a"), "latest", "web1", self.logs.lstrip("/"), "app.log")
        newest = self.fleet.path("newest")
        with open(newest, "w") as file:
            file.write("second\n")
        wait_for(lambda: os.path.exists(link) and sha256(link) == sha256(newest), f"{link} shows the newest")

    def test_S39_rotation_while_the_node_is_down(self):
        self.write(b"app.log", b"zero\n")
        self.host.start()
        self.settle()
        self.host.kill()
        path = os.path.join(self.logs, "app.log")
        truth = []
        with open(path, "ab") as file:
            file.write(b"zero goes on\n")
        for generation in (3, 2, 1):
            for number in range(3, 0, -1):
                if os.path.exists(f"{path}.{number}"):
                    os.rename(f"{path}.{number}", f"{path}.{number + 1}")
            os.rename(path, f"{path}.1")
            self.write(b"app.log", b"generation %d\n" % generation)
            with open(f"{path}.1", "ab") as late:
                late.write(b"a late line after rename %d\n" % generation)
        self.host.start()
        self.settle()
        truth = {name: os.path.join(self.logs, name) for name in os.listdir(self.logs)}
        for server in ("logs-a", "logs-b"):
            compare_with_truth(self.fleet, server, "web1", truth)


if __name__ == "__main__":
    unittest.main(verbosity=2)
