"""Paths that begin to lead elsewhere, links whose targets come later, links that lend rights, names that can't be followed.
F1, D9, G7, D10. Every new line must come by a hint: the rescan is an hour away in these tests."""

import contextlib
import os
import socket
import subprocess
import threading
import time
import unittest

from harness import Failure, Fleet, wait_for

SOMEBODY = 65_534
AS_ROOT = os.getuid() == 0


class Names(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enterContext(Fleet())
        self.top = self.fleet.path("t")
        os.makedirs(self.top)
        self.server = self.fleet.server("logs-a").start()
        self.server.wait_ready()

    def path(self, *parts):
        return os.path.join(self.top, *parts)

    def start(self, *include, extra="", poll="1h"):
        """A host that neither rescans nor polls by itself (unless asked to) while a test runs."""
        self.host = self.fleet.host("web1", [self.path(pattern) for pattern in include], ["logs-a"])
        with open(self.host.config) as file:
            text = file.read()
        text = text.replace("  servers:\n", f"{extra}  rescan: 1h\n  poll: {poll}\n  servers:\n")
        with open(self.host.config, "w") as file:
            file.write(text)
        self.host.start().wait_ready()
        self.assertEqual(self.host.settled(30).returncode, 0)

    def contents(self):
        found = set()
        for _, _, path in self.fleet.held("logs-a", "web1"):
            with contextlib.suppress(OSError), open(path) as file:
                found.add(file.read())
        return found

    def arrives(self, text, limit=5.0):
        """How long until some file on the server holds the text."""
        began = time.monotonic()
        wait_for(lambda: any(text in content for content in self.contents()), f"{text!r} on the server", limit, 0.005)
        return time.monotonic() - began

    def write(self, name, text):
        with open(self.path(name), "a") as file:
            file.write(text)

    def flip(self, link, target):
        os.symlink(target, self.path(link + ".new"))
        os.rename(self.path(link + ".new"), self.path(link))


class Elsewhere(Names):
    """6: the base of a pattern is what its path leads to now."""

    def test_a_deploy_link_moves_on_F1(self):
        for release in "12345":
            os.makedirs(self.path("rel", release, "log"))
        os.symlink("rel/1", self.path("now"))
        os.symlink(self.path("now"), self.path("current"))
        self.write("rel/1/log/app.log", "first\n")
        self.start("current/log/*.log")
        for link, target, release in (
            ("now", "rel/2", "2"), ("current", "rel/3", "3"), ("current", self.path("now"), "2"), ("now", self.path("rel/4"), "4"),
        ):
            self.flip(link, target)
            self.write(f"rel/{release}/log/app.log", f"{release} after {link}\n")
            self.assertLess(self.arrives(f"{release} after {link}\n"), 1.0)
            self.write(f"rel/{release}/log/new-{link}.log", f"new {release} {link}\n")
            self.assertLess(self.arrives(f"new {release} {link}\n"), 1.0)
        self.assertEqual(self.host.settled(30).returncode, 0)

    def test_a_link_below_the_base_moves_on_F1(self):
        for release in "12":
            os.makedirs(self.path("rel", release, "log"))
        os.makedirs(self.path("srv/web"))
        os.makedirs(self.path("aside"))
        os.symlink("../rel/1", self.path("aside/now"))
        os.symlink("../../aside/now", self.path("srv/web/current"))
        self.write("rel/1/log/app.log", "first\n")
        self.start("srv/*/current/log/*.log")
        # The link that moves lies in a directory that no pattern covers.
        self.flip("aside/now", "../rel/2")
        self.write("rel/2/log/app.log", "second\n")
        self.assertLess(self.arrives("second\n"), 1.0)

    def test_a_parent_is_renamed_and_made_anew_or_made_later_F1(self):
        self.start("a/b/log/*.log")
        for round in range(3):
            os.makedirs(self.path("a/b/log"))
            self.write("a/b/log/x.log", f"round {round}\n")
            self.assertLess(self.arrives(f"round {round}\n"), 1.0)
            if round == 1:
                os.rename(self.path("a/b"), self.path("away"))
            else:
                os.rename(self.path("a"), self.path(f"old{round}"))

    def test_what_lives_a_tenth_of_a_second_in_the_new_directory_isnt_lost_F1(self):
        for release in "12":
            os.makedirs(self.path(release))
        os.symlink("1", self.path("current"))
        self.start("current/*.log")
        self.flip("current", "2")
        self.write("2/short.log", "short\n")
        time.sleep(0.1)  # its life, not a wait for anybody
        os.unlink(self.path("2/short.log"))
        self.arrives("short\n")

    @unittest.skipUnless(AS_ROOT, "only root mounts")
    def test_a_volume_is_mounted_over_it_and_unmounted_F1(self):
        probe = subprocess.run(["unshare", "-m", "true"], capture_output=True)
        if probe.returncode != 0:
            self.skipTest(f"no mount namespace of its own: {probe.stderr.decode().strip()}")
        os.makedirs(self.path("log/deep"))
        self.write("log/under.log", "under\n")
        self.host = self.fleet.host("web1", [self.path("log/**/*.log")], ["logs-a"])
        with open(self.host.config) as file:
            text = file.read()
        with open(self.host.config, "w") as file:
            file.write(text.replace("  servers:\n", "  rescan: 1h\n  poll: 1h\n  servers:\n"))
        self.host.start(prefix=["unshare", "-m", "--propagation", "private"]).wait_ready()
        self.arrives("under\n")

        def inside(*command):
            arguments = ["nsenter", f"--mount=/proc/{self.host.process.pid}/ns/mnt", *command]
            subprocess.run(arguments, check=True, capture_output=True)

        def write(name, text):
            inside("sh", "-c", f"printf '{text}' >> {self.path('log', name)}")

        for round, place in enumerate(("log", "log/deep", "log")):
            inside("mount", "-t", "tmpfs", "none", self.path(place))
            write(f"{place[3:]}/x{round}.log".lstrip("/"), f"mounted {round}")
            self.assertLess(self.arrives(f"mounted {round}"), 1.0)
            if place == "log":
                # What the node has open keeps a file system busy.
                inside("umount", "-l", self.path(place))
                write(f"y{round}.log", f"unmounted {round}")
                self.assertLess(self.arrives(f"unmounted {round}"), 1.5)


class Later(Names):
    """9: a link whose target comes later."""

    def put(self, name, text):
        """With its bytes from the start: what is written to the target later is found by polls, which are off here."""
        self.write("data/app/next", text)
        os.rename(self.path("data/app/next"), self.path(name))

    def test_a_target_that_comes_later_is_followed_at_once_F1(self):
        os.makedirs(self.path("log"))
        os.symlink("../data/app/real", self.path("log/view.log"))
        os.symlink("view.log", self.path("log/chain.log"))
        self.start("log/*.log")
        os.makedirs(self.path("data/app"))
        self.put("data/app/real", "one\n")
        self.assertLess(self.arrives("one\n"), 1.0)
        # Moved away, with a new one in its place; removed and made anew.
        os.rename(self.path("data/app/real"), self.path("data/app/real.1"))
        self.put("data/app/real", "two\n")
        self.assertLess(self.arrives("two\n"), 1.0)
        self.put("data/app/real", "three\n")
        self.assertLess(self.arrives("three\n"), 1.0)
        os.unlink(self.path("data/app/real"))
        self.put("data/app/real", "four\n")
        self.assertLess(self.arrives("four\n"), 1.0)


@unittest.skipUnless(AS_ROOT, "only root can give files to others")
class Lent(Names):
    """10: links lend nobody the node's rights."""

    def secret(self, name, text, mode=0o600):
        self.write(name, text)
        os.chmod(self.path(name), mode)

    def unfollowed(self, count):
        def answer():
            status = self.host.status()
            return status and status["unfollowedCount"] == count and status
        status = wait_for(answer, f"{count} names are shown as not followed", 10)
        return {os.path.relpath(entry["path"], self.top): entry for entry in status["unfollowed"]}

    def attack(self):
        """What a user may do who may write in a followed directory (the kernel's sysctls are taken to be off)."""
        os.makedirs(self.path("log/open"))
        os.makedirs(self.path("safe"))
        os.makedirs(self.path("private"), mode=0o700)
        self.secret("private/secret", "SECRET one\n")
        self.secret("safe/second", "SECRET two\n")
        self.secret("private/third", "SECRET three\n")
        os.chown(self.path("log/open"), SOMEBODY, SOMEBODY)

        def plant(name, target):
            os.symlink(target, self.path("log/open", name))
            os.chown(self.path("log/open", name), SOMEBODY, SOMEBODY, follow_symlinks=False)

        plant("direct.log", self.path("private/secret"))
        plant("relative.log", "../../private/secret")
        plant("proc.log", f"/proc/self/root{self.path('private/secret')}")
        plant("dir", self.path("private"))
        plant("through.log", "dir/secret")
        os.link(self.path("safe/second"), self.path("log/open/hard.log"))

    def test_nothing_is_lent_and_it_is_said_D9(self):
        self.attack()
        # Ordinary setups: root's link, a user's link to the user's file, a file that all may read under two names.
        os.makedirs(self.path("home"))
        self.write("home/mine", "mine\n")
        self.secret("home/mine", "", 0o600)
        os.chown(self.path("home"), SOMEBODY, SOMEBODY)
        os.chown(self.path("home/mine"), SOMEBODY, SOMEBODY)
        os.symlink(self.path("home/mine"), self.path("log/open/mine.log"))
        os.chown(self.path("log/open/mine.log"), SOMEBODY, SOMEBODY, follow_symlinks=False)
        self.write("safe/readable", "readable\n")
        os.link(self.path("safe/readable"), self.path("log/open/readable.log"))
        self.secret("safe/by-root", "by root\n")
        os.symlink(self.path("safe/by-root"), self.path("log/by-root.log"))
        self.secret("log/plain.log", "plain\n", 0o640)
        self.start("log/**/*.log", "log/open/dir/*", poll="100ms")
        held = self.contents()
        self.assertEqual(held, {"mine\n", "readable\n", "by root\n", "plain\n"})
        shown = self.unfollowed(6)
        self.assertEqual(
            {name for name in shown},
            {f"log/open/{name}" for name in ("direct.log", "relative.log", "proc.log", "dir", "through.log", "hard.log")})
        self.assertTrue(all(not entry["owed"] and "links: any" in entry["reason"] for entry in shown.values()))
        # Settled all the same; a link that is swapped while it is judged lends nothing either.
        self.assertEqual(self.host.settled(30).returncode, 0)
        self.write("safe/own", "x")
        os.chown(self.path("safe/own"), SOMEBODY, SOMEBODY)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            for target in ("safe/own", "private/third"):
                os.symlink(self.path(target), self.path("log/open/swap"))
                os.chown(self.path("log/open/swap"), SOMEBODY, SOMEBODY, follow_symlinks=False)
                os.rename(self.path("log/open/swap"), self.path("log/open/swap.log"))
        self.assertFalse([content for content in self.contents() if "SECRET" in content])

    def test_a_base_and_a_directory_link_lend_nothing_either_D9(self):
        self.attack()
        self.start("log/open/dir/*")
        self.assertEqual(self.contents(), set())
        self.assertEqual(list(self.unfollowed(1)), ["log/open/dir"])

    def test_links_any_lends_but_never_the_nodes_own_D9(self):
        self.attack()
        data = self.fleet.path("web1", "data")
        self.fleet.issue("web1", "host")
        key = os.path.join(self.fleet.keys, "web1.key")
        self.start("log/**/*.log", extra="", poll="100ms")
        with open(self.host.config) as file:
            text = file.read()
        self.host.stop()
        with open(self.host.config, "w") as file:
            file.write(text.replace("    - include:", "    - links: any\n      include:"))
        self.host.start().wait_ready()
        self.arrives("SECRET two\n")
        self.arrives("SECRET one\n")
        for number, target in enumerate((key, f"{data}/journal.key", f"{data}/journal/data.mdb")):
            os.symlink(target, self.path(f"log/soft{number}.log"))
            os.link(target, self.path(f"log/hard{number}.log"))
        # The key is renewed while the node runs.
        with open(key) as file:
            text = file.read()
        with open(key + ".new", "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
        os.rename(key + ".new", key)
        os.link(key, self.path("log/renewed.log"))
        self.write("log/last.log", "last\n")
        self.arrives("last\n")
        self.assertEqual(self.host.settled(30).returncode, 0)
        self.assertFalse([content for content in self.contents() if "PRIVATE KEY" in content])
        shown = [entry for entry in self.host.status()["unfollowed"] if "own" in entry["reason"]]
        self.assertEqual(len(shown), 7, shown)


class Odd(Names):
    """13 and 15: names that can't be followed are said."""

    def test_a_path_too_long_for_a_journal_isnt_settled_G7(self):
        os.makedirs(self.path("log"))
        self.start("log/**/*.log", poll="100ms")
        here = os.open(self.path("log"), os.O_RDONLY)
        depth = 0
        length = len(self.path("log"))
        while length < 4_300:
            os.mkdir("d" * 200, dir_fd=here)
            deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here, depth, length = deeper, depth + 1, length + 201
        with open(os.open("x.log", os.O_CREAT | os.O_WRONLY, dir_fd=here), "w") as file:
            file.write("deep\n")
        try:
            done = self.host.settled(3)
            self.assertEqual(done.returncode, 3, done.stdout + done.stderr)
            self.assertIn("more than the 4095", done.stdout + done.stderr)
            status = self.host.status()
            self.assertFalse(status["settled"])
            self.assertTrue(status["unfollowed"][0]["owed"])
        finally:
            os.close(here)
            subprocess.run(["rm", "-rf", self.path("log/" + "d" * 200)], check=True)
        self.assertEqual(self.host.settled(30).returncode, 0)
        self.assertEqual(self.host.status()["unfollowed"], [])

    def test_what_is_no_log_doesnt_keep_a_host_from_being_settled(self):
        os.makedirs(self.path("log"))
        for name, target in (("uptime", "/proc/uptime"), ("kmsg", "/proc/kmsg"), ("null", "/dev/null"), ("nowhere", "gone")):
            os.symlink(target, self.path("log", name + ".log"))
        os.mkfifo(self.path("log/fifo.log"))
        with socket.socket(socket.AF_UNIX) as listener:
            with contextlib.chdir(self.path("log")):
                listener.bind("socket.log")
            self.write("log/a.log", "a\n")
            self.start("log/*.log")
            status = self.host.status()
            self.assertTrue(status["settled"])
            shown = {os.path.basename(entry["path"]): entry for entry in status["unfollowed"]}
            self.assertEqual(set(shown), {f"{name}.log" for name in ("uptime", "kmsg", "null", "fifo", "socket")})
            self.assertIn("a FIFO", shown["fifo.log"]["reason"])
            self.assertIn("made up by the kernel", shown["uptime.log"]["reason"])
            self.assertFalse([entry for entry in shown.values() if entry["owed"]])
        with open(self.host.log) as log:
            self.assertEqual(log.read().count("uptime.log"), 1)


if __name__ == "__main__":
    unittest.main()
