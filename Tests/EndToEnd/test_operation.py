"""What operators do to a node while it runs: permissions, wrong starts. D10, G7, P3."""

import os
import signal
import subprocess
import unittest

from harness import BINARY, Fleet, free_port, wait_for


class Operation(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enterContext(Fleet())
        self.logs = self.fleet.path("log")
        os.makedirs(self.logs)
        self.server = self.fleet.server("logs-a")
        self.host = self.fleet.host("web1", [f"{self.logs}/*.log"], ["logs-a"])

    def write(self, name, text):
        path = os.path.join(self.logs, name)
        with open(path, "a") as file:
            file.write(text)
        return path

    @unittest.skipUnless(os.getuid() == 0, "only root can start a node as somebody else")
    def test_a_file_that_cannot_be_read_is_shown_and_is_not_settled(self):
        somebody = 65_534
        os.chmod(self.fleet.dir, 0o755)
        for top in (self.fleet.path("web1"), self.fleet.keys):
            for directory, _, names in os.walk(top):
                for path in [directory, *(os.path.join(directory, name) for name in names)]:
                    os.chown(path, somebody, somebody)
        self.write("open.log", "one\n")
        closed = self.write("closed.log", "two\n")
        os.chmod(closed, 0)
        self.server.start().wait_ready()
        self.host.start(prefix=["setpriv", f"--reuid={somebody}", f"--regid={somebody}", "--clear-groups"])
        self.host.wait_ready()

        def waiting():
            status = self.host.status()
            return status and status["waiting"] and status

        status = wait_for(waiting, "the unreadable file is shown")
        self.assertEqual([(file["path"], file["server"]) for file in status["waiting"]], [(closed, None)])
        self.assertIn("Permission denied", status["waiting"][0]["reason"])
        self.assertEqual(status["waitingCount"], 1)
        self.assertFalse(status["settled"])
        for allow_gaps in (False, True):
            self.assertEqual(self.host.settled(1, allow_gaps).returncode, 3)
        os.chmod(closed, 0o644)
        done = self.host.settled(30)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(self.host.status()["waiting"], [])

    def test_a_second_node_on_one_data_folder_or_log_root_is_refused_P3(self):
        self.server.start().wait_ready()
        self.host.start().wait_ready()
        with open(self.server.config) as file:
            text = file.read()
        other_port = text.replace(str(self.fleet.ports["logs-a"]), str(free_port()))
        other_data = other_port.replace(self.fleet.path("logs-a", "data"), self.fleet.path("logs-a", "data2"))
        copies = {"host": self.host.config}
        for name, content in (("data", other_port), ("logs", other_data)):
            copies[name] = self.fleet.path(f"second-{name}.yaml")
            with open(copies[name], "w") as file:
                file.write(content)
        held = {
            "host": self.fleet.path("web1", "data", "journal"),
            "data": self.fleet.path("logs-a", "data", "holdings"),
            "logs": self.fleet.logs("logs-a"),
        }
        for name, config in copies.items():
            done = subprocess.run([BINARY, "node", "--config", config], capture_output=True, text=True, timeout=20)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(f"{held[name]} is in use: another node writes to it", done.stderr)
        self.write("a.log", "one\n")
        self.assertEqual(self.host.settled(30).returncode, 0)
        # A lock ends with its holder, however that ends.
        self.server.kill()
        self.server.start().wait_ready()

    def test_a_wrong_certificate_at_the_first_start_spoils_nothing_W5(self):
        self.server.start().wait_ready()
        self.fleet.issue("web9", "host")
        with open(self.host.config) as file:
            right = file.read()
        self.write("a.log", "one\n")
        for other, reason in (("web9", "is for web9, and node.name is web1"), ("logs-a", "is for logs-a, and node.name")):
            with open(self.host.config, "w") as file:
                file.write(right.replace("web1.crt", f"{other}.crt").replace("web1.key", f"{other}.key"))
            arguments = [BINARY, "node", "--config", self.host.config]
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=20)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(reason, done.stderr)
        with open(self.host.config, "w") as file:
            file.write(right)
        self.host.start().wait_ready()
        done = self.host.settled(30)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_directory_that_cannot_be_made_is_said(self):
        for node, key, path in (
            (self.host, "node.data", self.fleet.path("web1", "data")),
            (self.server, "server.logs", self.fleet.logs("logs-a")),
        ):
            with open(path, "w"):
                pass
            arguments = [BINARY, "node", "--config", node.config]
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=20)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertEqual(
                done.stderr.strip(), f"nimbus-journal: {key}: the directory {path} can't be made: File exists")

    def test_a_server_that_hangs_is_left_and_goes_on_where_it_stood_W4(self):
        self.server.start().wait_ready()
        self.write("a.log", "one\n")
        self.host.start().wait_ready()
        self.assertEqual(self.host.settled(30).returncode, 0)
        self.server.process.send_signal(signal.SIGSTOP)
        self.write("a.log", "two\n")
        # Its system still takes what the host sends.
        said = wait_for(lambda: self.host.status()["servers"][0]["lastError"], "the silence is noticed", 40, pause=1)
        self.assertIn("nothing was heard", said)
        text = self.fleet.run("status", "--config", self.host.config).stdout
        self.assertTrue(text.startswith("web1 (host): not settled"), text)
        self.server.process.send_signal(signal.SIGCONT)
        done = self.host.settled(30)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
