#!/usr/bin/python3
"""M1: other records of one journal are kept beside those that are held, whoever says so and whatever is killed."""

import json
import os
import shutil
import unittest
import uuid

from harness import Fleet, wait_for
from peer import Closed, Peer


class Sequences(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enterContext(Fleet())
        self.server = self.fleet.server("logs-a").start()
        self.fleet.issue("web1", "host")
        self.server.wait_ready()

    def histories(self):
        """What is held of web1's journal: its records' types and files, each sequence by itself."""
        config = self.server.config
        lines = self.fleet.run("inspect", "events", "--config", config, "--host", "web1", "--json").stdout.splitlines()
        events = [json.loads(line) for line in lines]
        first = [event for event in events if "fork" not in event]
        result = {None: [(event["type"], event.get("file")) for event in first]}
        for event in events:
            if "fork" not in event:
                continue
            start = result.setdefault(event["fork"], result[None][: event["fork"]])
            self.assertEqual(event["record"], len(start))
            start.append((event["type"], event.get("file")))
        return result

    def reports(self, words):
        with open(self.server.log, errors="replace") as log:
            return [line for line in log if words in line]

    def test_M1_a_clone_with_the_same_journal_is_held_beside_it_after_kills(self):
        first = Peer(self.fleet, "logs-a", "web1")
        self.assertEqual(first.hello()[0], "welcome")
        for number in range(200):
            first.deliver(b"/var/log/%d.log" % number, b"line %d\n" % number) if number < 3 else first.send_records(
                [first.born(os.urandom(16), b"/var/log/%d.log" % number)]
            )
        self.assertTrue(first.records_durable())
        own = list(first.records)
        first.close()
        clone = Peer(self.fleet, "logs-a", "web1", journal=first.journal, key=first.key, records=own[:150])
        self.addCleanup(lambda: clone.close())
        clone.records += [clone.born(os.urandom(16), b"/srv/%d.log" % number) for number in range(100)]
        theirs = list(clone.records)
        for attempt in range(8):
            try:
                if attempt < 4:
                    # Killed where it is asked, along what is held, beyond.
                    clone.records = theirs[: 150 + 25 * attempt]
                    clone.go_on()
                    self.server.kill()
                    self.server.start().wait_ready()
                    raise Closed("killed")
                clone.records = list(theirs)
                if clone.go_on():
                    break
            except Closed:
                pass
            clone.close()
            clone.connect(self.fleet, "logs-a")
        self.assertEqual(clone.records, theirs)
        held = self.histories()
        self.assertEqual({start: len(events) for start, events in held.items()}, {None: len(own), 150: len(theirs)})
        self.assertEqual(self.server.status()["equivocations"], [{"host": "web1", "count": 1}])
        self.assertIn(len(self.reports("other records than those held came")), range(1, 3))
        # The first one goes on where it was, and so does the clone.
        first.connect(self.fleet, "logs-a")
        self.assertTrue(first.go_on())
        file = first.deliver(b"/var/log/more.log", b"and more\n")
        clone.close()
        clone.connect(self.fleet, "logs-a")
        self.assertTrue(clone.go_on())
        clone.deliver(b"/srv/more.log", b"and more\n")
        held = self.histories()
        self.assertEqual(len(held[None]), len(first.records))
        self.assertEqual(len(held[150]), len(clone.records))
        self.assertIn(("bytes-appended", str(uuid.UUID(bytes=file))), held[None])
        overview = json.loads(self.fleet.run("inspect", "--config", self.server.config, "--json").stdout)
        self.assertEqual(sorted(str(journal["fork"]) for journal in overview["journals"]), ["150", "None"])

    def test_M1_a_host_whose_data_was_put_back_from_a_backup_goes_on(self):
        folder = self.fleet.path("var")
        os.makedirs(folder)
        log = os.path.join(folder, "app.log")
        with open(log, "w") as file:
            file.write("one\n")
        host = self.fleet.host("web1", [f"{folder}/*.log"], ["logs-a"])
        host.start().wait_ready()
        self.assertEqual(host.settled(30).returncode, 0)
        host.stop()
        data, backup = self.fleet.path("web1", "data"), self.fleet.path("backup")
        shutil.copytree(data, backup, symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
        host.start().wait_ready()
        # Growth and another file that the backup knows nothing of.
        with open(log, "a") as file:
            file.write("two\n")
        with open(os.path.join(folder, "other.log"), "w") as file:
            file.write("other\n")
        self.assertEqual(host.settled(30).returncode, 0)
        host.kill()
        shutil.rmtree(data)
        shutil.copytree(backup, data, symlinks=True)
        with open(log, "a") as file:
            file.write("three\n")
        for _ in range(2):
            host.start().wait_ready()
            done = host.settled(30)
            self.assertEqual(done.returncode, 0, done.stdout + host.tail())
            host.stop()
        rows = {os.path.basename(row["path"]): row for row in self.fleet.files("logs-a", "web1")}
        self.assertEqual(sorted(rows), ["app.log", "other.log"])
        for name, content in (("app.log", b"one\ntwo\nthree\n"), ("other.log", b"other\n")):
            self.assertEqual(rows[name]["branches"], [])
            path = self.fleet.stored("logs-a", rows[name])
            wait_for(lambda: os.path.getsize(path) >= len(content), "the plain file has it", 10)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), content)
        self.assertEqual(self.server.status()["equivocations"], [{"host": "web1", "count": 1}])
        with open(host.log, errors="replace") as lines:
            self.assertEqual(sum("other records of this journal" in line for line in lines), 1)


if __name__ == "__main__":
    unittest.main()
