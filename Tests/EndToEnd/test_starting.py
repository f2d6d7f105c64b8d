"""Starting and looking, with keys, directories, patterns and visitors as they are on people's machines. C20, D23, D24, D25."""

import json
import os
import socket
import struct
import subprocess
import time
import unittest
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from harness import BINARY, Fleet, compare_with_truth, free_port, wait_for
from peer import Closed, Peer


def issue(fleet, name, begins, ends):
    """A certificate for `name` by the fleet's authority, valid from and until so many seconds from now; put in the place
    of the one that is there, key first, as one who renews it may do."""
    with open(f"{fleet.keys}/ca.crt", "rb") as file:
        authority = x509.load_pem_x509_certificate(file.read())
    with open(f"{fleet.keys}/ca.key", "rb") as file:
        authority_key = serialization.load_pem_private_key(file.read(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(seconds=begins))
        .not_valid_after(now + timedelta(seconds=ends))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False
        )
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    put(f"{fleet.keys}/{name}.key", private)
    put(f"{fleet.keys}/{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def put(path, data):
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.replace(path + ".new", path)


class Keys(unittest.TestCase):
    """D23: whatever is wrong with its keys, a node starts, follows, journals and holds, and connects when they are right."""

    def setUp(self):
        self.fleet = self.enterContext(Fleet())
        self.logs = self.fleet.path("log")
        os.makedirs(self.logs)
        self.server = self.fleet.server("logs-a")
        self.host = self.fleet.host("web1", [f"{self.logs}/*.log"], ["logs-a"])
        self.truth = {}

    def write(self, name, text):
        truth = self.fleet.path(f"truth-{name}")
        self.truth[name] = truth
        for path in (truth, os.path.join(self.logs, name)):
            with open(path, "a") as file:
                file.write(text)

    def alarm(self, node, *words):
        def found():
            status = node.status()
            alarms = status and [alarm for alarm in status["alarms"] if alarm.startswith("keys: ")]
            return alarms and all(word in alarms[0] for word in words) and status

        return wait_for(found, f"{node.name} says of its keys: {words}", 30)

    def arrive(self):
        """Everything written is held, exactly once, though nobody restarted anything."""

        def delivered():
            status = self.host.status()
            return status and not status["alarms"] and status["servers"][0]["connected"]

        wait_for(delivered, "the host is connected", 90, pause=0.2)
        done = self.host.settled(60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        compare_with_truth(self.fleet, "logs-a", "web1", self.truth)
        self.assertEqual((self.host.starts, self.server.starts), self.starts)

    def begun(self):
        """A journal is there, and one file of it delivered."""
        self.server.start().wait_ready()
        self.write("a.log", "one\n")
        self.host.start().wait_ready()
        self.assertEqual(self.host.settled(30).returncode, 0)
        self.host.stop()

    def test_D23_a_host_with_an_expired_certificate_journals_and_holds_and_connects_when_it_is_renewed(self):
        self.begun()
        issue(self.fleet, "web1", -3_600, -60)
        self.host.start().wait_ready()
        self.starts = (self.host.starts, self.server.starts)
        status = self.alarm(self.host, "web1.crt: expired on 20")
        before = status["journalRecords"]
        self.write("a.log", "two\n")
        # Written and deleted while nobody may deliver: held until somebody may.
        self.write("gone.log", "short life\n")
        wait_for(lambda: self.host.status()["files"]["followed"] == 2, "the new file is followed")
        os.unlink(os.path.join(self.logs, "gone.log"))
        wait_for(lambda: self.host.status()["files"]["held"] == 1, "the deleted file is held")
        self.assertGreater(self.host.status()["journalRecords"], before)
        wait_for(lambda: "expired" in (self.host.status()["servers"][0]["lastError"] or ""), "the server's word is shown")
        with open(self.host.log) as log:
            self.assertIn("certificate, key or authorities are no good", log.read())
        issue(self.fleet, "web1", -60, 3_600)
        self.arrive()

    def test_D23_missing_foreign_early_and_mismatched_keys_are_said_and_taken_up(self):
        self.begun()
        key, certificate, authorities = (f"{self.fleet.keys}/{name}" for name in ("web1.key", "web1.crt", "ca.crt"))
        with open(authorities, "rb") as file:
            right = file.read()
        os.unlink(certificate)
        self.host.start().wait_ready()
        self.starts = (self.host.starts, self.server.starts)
        self.alarm(self.host, "web1.crt: can't be opened: No such file")
        self.assertIn("web1.crt", self.host.status()["servers"][0]["lastError"])
        self.write("b.log", "two\n")
        issue(self.fleet, "web1", 3_600, 7_200)
        self.alarm(self.host, "is not valid before 20")
        os.unlink(key)
        self.alarm(self.host, "web1.key: can't be opened")
        put(key, b"no key\n")
        self.alarm(self.host, "holds no usable private key")
        issue(self.fleet, "web1", -60, 3_600)
        put(authorities, b"nothing\n")
        self.alarm(self.host, "ca.crt: holds no certificate")
        self.write("c.log", "three\n")
        put(authorities, right)
        self.arrive()

    def test_D23_a_server_with_bad_keys_starts_and_serves_when_they_are_right(self):
        self.begun()
        self.server.stop()
        issue(self.fleet, "logs-a", -3_600, -60)
        self.server.start().wait_ready()
        self.host.start().wait_ready()
        self.starts = (self.host.starts, self.server.starts)
        self.alarm(self.server, "logs-a.crt: expired on 20")
        self.write("a.log", "two\n")
        error = lambda: self.host.status()["servers"][0]["lastError"] or ""
        wait_for(lambda: "certificate of logs-a expired" in error(), "the host says why")
        os.unlink(f"{self.fleet.keys}/logs-a.key")
        self.alarm(self.server, "logs-a.key: can't be opened")
        self.assertIn(self.fleet.run("inspect", "--config", self.server.config, "--json").returncode, (0,))
        issue(self.fleet, "logs-a", -60, 3_600)
        self.arrive()

    def test_D23_a_new_journal_needs_a_good_certificate_and_spoils_nothing(self):
        self.server.start().wait_ready()
        self.write("a.log", "one\n")
        issue(self.fleet, "web1", -3_600, -60)
        done = subprocess.run([BINARY, "node", "--config", self.host.config], capture_output=True, text=True, timeout=20)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("a new journal needs a good certificate", done.stderr)
        self.assertIn("expired on 20", done.stderr)
        issue(self.fleet, "web1", -60, 3_600)
        self.host.start().wait_ready()
        self.starts = (self.host.starts, self.server.starts)
        self.arrive()

    def test_D23_a_journal_without_its_key_is_said_and_no_other_key_is_made(self):
        self.begun()
        key = self.fleet.path("web1", "data", "journal.key")
        os.rename(key, key + ".away")
        for _ in range(2):
            done = subprocess.run(
                [BINARY, "node", "--config", self.host.config], capture_output=True, text=True, timeout=20
            )
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("journal.key is missing", done.stderr)
            self.assertFalse(os.path.exists(key))
        done = self.fleet.run("check", "--offline", "--config", self.host.config, check=False)
        self.assertIn("FAIL  keys: " + key + " is missing", done.stdout)
        os.rename(key + ".away", key)
        self.host.start().wait_ready()
        self.starts = (self.host.starts, self.server.starts)
        self.arrive()

    def test_C20_a_journal_key_that_anyone_can_sign_for_is_refused(self):
        self.server.start().wait_ready()
        for public in (b"\x01" + bytes(31), bytes(32), b"\xec" + b"\xff" * 30 + b"\xff"):
            liar = Peer(self.fleet, "logs-a", "web1")
            self.addCleanup(liar.close)
            liar.public = public
            answer, body = liar.hello()
            self.assertEqual(answer, "goodbye")
            self.assertIn(b"of small order", body)
        self.assertEqual(self.fleet.run("inspect", "--config", self.server.config, "--json").stdout.count('"journal":'), 0)


class Reports(unittest.TestCase):
    """A5: nobody's flood of reports hides what another did."""

    def lie(self, host, count):
        """Files whose bytes aren't those that were signed."""
        liar = Peer(self.fleet, "logs-a", host)
        self.addCleanup(liar.close)
        self.assertEqual(liar.hello()[0], "welcome")
        liar.send_records([liar.opened()])
        files = [os.urandom(16) for _ in range(count)]
        for number, file in enumerate(files):
            liar.send_records([liar.born(file, b"/var/log/%d.log" % number), liar.appended(file, 0, b"true", b"true")])
        self.assertTrue(liar.records_durable(limit=60))
        for file in files:
            liar.resume(file)
            liar.send_payload(file, 0, b"lie!")
            self.assertNotEqual(liar.payload_durable(file, 4), 0)

    def test_A5_one_hosts_flood_leaves_anothers_conflict_in_the_log(self):
        self.fleet = self.enterContext(Fleet())
        server = self.fleet.server("logs-a")
        for name in ("web1", "web2"):
            self.fleet.issue(name, "host")
        # In the way of every link below it.
        os.makedirs(os.path.join(self.fleet.logs("logs-a"), "latest", "web1"))
        with open(os.path.join(self.fleet.logs("logs-a"), "latest", "web1", "var"), "w"):
            pass
        server.start().wait_ready()
        self.lie("web1", 400)
        self.lie("web2", 1)

        def lines(*words):
            with open(server.log, errors="replace") as log:
                return [line for line in log if all(word in line for word in words)]

        wait_for(lambda: lines("bytes of a file were refused", "host=web2"), "the other's conflict is in the log", 10)
        self.assertLessEqual(len(lines("bytes of a file were refused", "host=web1")), 50)
        wait_for(lambda: lines("latest/ can't show"), "what is in the way of latest/ is said", 10)
        self.assertLessEqual(len(lines("latest/ can't show")), 50)


class Looking(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enterContext(Fleet())
        self.logs = self.fleet.path("log")
        os.makedirs(self.logs)
        self.server = self.fleet.server("logs-a")
        self.host = self.fleet.host("web1", [f"{self.logs}/*.log"], ["logs-a"])

    def with_status(self, node):
        port = free_port()
        with open(node.config, "a") as file:
            file.write(f"status: {{ listen: 127.0.0.1:{port} }}\n")
        return port

    def health(self, port):
        """The status line and how long it took, in seconds."""
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while piece := client.recv(4096):
                answer += piece
        return answer.split(b"\r\n")[0], time.monotonic() - began

    def test_D24_two_hundred_slow_clients_keep_nobody_from_the_status(self):
        port = self.with_status(self.server)
        self.server.start().wait_ready()
        times = []
        slow = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(200)]
        self.addCleanup(lambda: [client.close() for client in slow])
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            for index, client in enumerate(slow):
                try:
                    client.send(b"G")
                except OSError:
                    client.close()
                    slow[index] = socket.create_connection(("127.0.0.1", port), timeout=10)
            line, took = self.health(port)
            self.assertEqual(line, b"HTTP/1.1 200 OK")
            times.append(took)
        print(f"/healthz beside 200 slow clients: p50 {sorted(times)[len(times) // 2] * 1e3:.1f} ms, greatest {max(times) * 1e3:.1f} ms of {len(times)}")
        self.assertLess(max(times), 0.5)

    def test_D23_an_address_that_the_status_page_cannot_have_keeps_nobody_from_starting(self):
        port = self.with_status(self.host)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen()
            self.server.start().wait_ready()
            with open(os.path.join(self.logs, "a.log"), "w") as file:
                file.write("one\n")
            self.host.start().wait_ready()
            self.assertIn("status page: ", self.host.status()["alarms"][0])
            self.assertEqual(self.host.settled(30).returncode, 0)
        wait_for(lambda: not self.host.status()["alarms"], "the page is served", 30, pause=0.2)
        self.assertEqual(self.health(port)[0], b"HTTP/1.1 200 OK")

    def test_D24_those_who_gave_up_waiting_keep_no_place(self):
        self.server.start().wait_ready()
        open(os.path.join(self.logs, "a.log"), "w").close()
        self.host.start().wait_ready()
        self.server.stop()
        with open(os.path.join(self.logs, "a.log"), "a") as file:
            file.write("not to be delivered\n")
        for _ in range(3):
            waiting = [
                subprocess.Popen(
                    [BINARY, "status", "--config", self.host.config, "--settled", "1h"],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                for _ in range(16)
            ]
            time.sleep(0.5)
            self.assertIsNotNone(self.host.status(), "asked while 16 wait")
            for process in waiting:
                process.kill()
                process.wait()
        self.assertEqual(self.host.settled(1).returncode, 3)

    def test_D24_directories_that_others_may_write_and_public_pages_are_said(self):
        with open(self.server.config, "a") as file:
            file.write(f"status: {{ listen: 0.0.0.0:{free_port()} }}\n")
        os.makedirs(self.fleet.path("logs-a", "data"), mode=0o700)
        os.makedirs(self.fleet.logs("logs-a"))
        os.chmod(self.fleet.logs("logs-a"), 0o777)
        os.chmod(self.fleet.path("logs-a"), 0o775)
        done = self.fleet.run("check", "--config", self.server.config, "--offline")
        self.server.start().wait_ready()
        with open(self.server.log) as log:
            said = log.read()
        for text in (done.stdout, said):
            self.assertIn(f"{self.fleet.logs('logs-a')} has mode 777: others could change", text)
            self.assertIn(f"node.data: {self.fleet.path('logs-a')} has mode 775: others could put", text)
            self.assertIn("can be reached from other machines", text)

    def test_D24_patterns_that_would_take_for_ever_are_bounded(self):
        with open(self.host.config) as file:
            text = file.read()
        right = f"{self.logs}/*.log"

        def check(pattern, limit=10):
            with open(self.host.config, "w") as file:
                file.write(text.replace(right, pattern))
            return self.fleet.run("check", "--offline", "--config", self.host.config, check=False, timeout=limit)

        self.assertEqual(check(self.logs + "/" + "**/" * 1_300 + "*.log").returncode, 0)
        refused = check(self.logs + "/" + "**/a/" * 600 + "*.log")
        self.assertEqual(refused.returncode, 1)
        self.assertRegex(refused.stdout, r"web1.yaml:\d+: host.follow\[0\].include\[0\]: more than 8 times `\*\*`")
        many = '", "'.join(f"{self.logs}/{number}/**/" + "*a" * 40 + "*b" for number in range(999))
        self.assertEqual(check(many, limit=60).returncode, 0)

    def test_D25_inspect_alone_prints_an_overview(self):
        self.server.start().wait_ready()
        with open(os.path.join(self.logs, "a.log"), "w") as file:
            file.write("one\n")
        self.host.start().wait_ready()
        self.assertEqual(self.host.settled(30).returncode, 0)
        mine = json.loads(self.fleet.run("inspect", "--config", self.host.config, "--json").stdout)
        theirs = json.loads(self.fleet.run("inspect", "--config", self.server.config, "--json").stdout)
        self.assertEqual((mine["name"], mine["roles"], mine["durable"]), ("web1", ["host"], None))
        self.assertEqual((theirs["name"], theirs["roles"], theirs["durable"]), ("logs-a", ["server"], 4))
        for seen in (mine, theirs):
            self.assertEqual((seen["hosts"], seen["files"], seen["open"], seen["length"], seen["gaps"]), (1, 1, 1, 4, 0))
        self.assertEqual(mine["journals"][0]["root"], theirs["journals"][0]["root"])
        text = self.fleet.run("inspect", "--config", self.server.config).stdout
        self.assertTrue(text.startswith("logs-a (server): 1 host, 1 file, 1 open\n"), text)
        data = self.fleet.path("logs-a", "data")
        alone = json.loads(self.fleet.run("inspect", "--data", data, "--logs", self.fleet.logs("logs-a"), "--json").stdout)
        self.assertEqual(alone, {**theirs, "name": None})
        self.assertEqual(len(self.fleet.run("inspect", "files", "--config", self.host.config).stdout.splitlines()), 2)

    def test_D25_every_command_looks_for_its_configuration_in_one_place(self):
        standard = "/etc/nimbus-journal/node.yaml"
        if os.path.exists(standard):
            self.skipTest(f"{standard} is there")
        for command in (["node"], ["check"], ["status"], ["inspect"], ["inspect", "files"], ["inspect", "events"],
                        ["inspect", "hosts"]):
            done = self.fleet.run(*command, check=False)
            self.assertEqual(done.returncode, 1, command)
            self.assertIn(f"{standard}: can't be read: No such file or directory", done.stdout + done.stderr)
            self.assertIn(standard, self.fleet.run(*command, "--help").stdout, command)


if __name__ == "__main__":
    unittest.main(verbosity=2)
