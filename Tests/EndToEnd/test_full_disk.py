"""P4, G3, S55: a disk that runs full loses nothing, is said, and heals by itself when there is room again.

Mounts small tmpfs file systems of its own; without the right to mount, the tests are skipped, and say so.
"""

import contextlib
import os
import random
import subprocess
import unittest

from harness import Fleet, compare_with_truth, wait_for


class FullDisk(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enterContext(Fleet())
        self.log = self.fleet.path("log")
        os.makedirs(self.log)

    def mount(self, directory, size):
        os.makedirs(directory, mode=0o700)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "nimbus-test", directory],
            capture_output=True, text=True,
        )
        if done.returncode != 0:
            self.skipTest(f"no right to mount: {done.stderr.strip()}")
        # Lazily: the nodes end after this, with the fleet.
        self.addCleanup(subprocess.run, ["umount", "--lazy", directory], check=True)

    def write(self, name, size, seed):
        with open(os.path.join(self.log, name), "wb") as file:
            file.write(random.Random(seed).randbytes(size))

    def start(self, servers):
        for server in servers:
            server.start().wait_ready()
        host = self.fleet.host("web1", [f"{self.log}/*.log*"], [server.name for server in servers])
        return host.start()

    def assert_settles_with_everything(self, host, servers):
        done = host.settled(60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        truth = {name: os.path.join(self.log, name) for name in os.listdir(self.log)}
        for server in servers:
            compare_with_truth(self.fleet, server.name, "web1", truth)

    def test_a_servers_full_log_root_is_refused_said_and_made_good(self):
        full, roomy = self.fleet.server("logs-a"), self.fleet.server("logs-b")
        root = self.fleet.logs("logs-a")
        self.mount(root, "6m")
        self.write("big.log", 12 << 20, 1)
        self.write("small.log", 1_000, 2)
        host = self.start([full, roomy])

        def shown():
            status = host.status()
            waiting = status and [file for file in status["waiting"] if "diskFull" in file["reason"]]
            return waiting and all(file["server"] == "logs-a" for file in waiting)

        wait_for(shown, "the host says that logs-a refuses for its full disk", 30)
        # The other server has everything meanwhile (G3), and a restart beside the full disk changes nothing.
        wait_for(lambda: host.status()["servers"][1]["lagBytes"] == 0, "logs-b holds all", 30)
        full.kill()
        full.start().wait_ready()
        self.assertNotEqual(host.settled(2).returncode, 0)
        subprocess.run(["mount", "-o", "remount,size=64m", root], check=True)
        self.assert_settles_with_everything(host, [full, roomy])

    def test_a_hosts_full_data_folder_stops_its_journal_and_loses_nothing(self):
        server = self.fleet.server("logs-a")
        os.makedirs(self.fleet.path("web1"))
        data = self.fleet.path("web1", "data")
        # Less than the step in which the journal reserves room, so that the ballast is felt at once.
        self.mount(data, "12m")
        self.write("first.log", 100_000, 1)
        host = self.start([server])
        host.wait_ready()
        self.assertEqual(host.settled(30).returncode, 0)
        with open(os.path.join(data, "ballast"), "wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(bytes(4096)):
                pass
        for number in range(1_000):
            self.write(f"more-{number}.log", 2_000, number)

        def blocked():
            status = host.status()
            return status and any("journal blocked" in alarm for alarm in status["alarms"])

        wait_for(blocked, "the host says that its journal is blocked", 30)
        self.assertTrue(host.is_running())
        os.remove(os.path.join(data, "ballast"))
        self.assert_settles_with_everything(host, [server])


if __name__ == "__main__":
    unittest.main(verbosity=2)
