"""D1, D2, D5, F2, G7: which file an inode is, on cloned volumes and overlays; what was cut off; removed files without leases.

Needs root: loop devices and overlays are mounted in a mount namespace of the test's own, which ends with it.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import unittest

from harness import BINARY, Failure, Fleet, wait_for

CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000


def enter_own_namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        raise OSError(ctypes.get_errno(), "no mount namespace of one's own")


def call(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Failure(f"{' '.join(arguments)}: {done.stderr}")
    return done.stdout


class Inodes(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enterContext(Fleet())
        self.logs = self.fleet.path("logs")
        os.makedirs(self.logs)
        self.mounts = []
        self.addCleanup(self.unmount_all)
        self.fleet.server("logs-a").start()
        self.fleet.server("logs-b").start()
        for name in ("logs-a", "logs-b"):
            self.fleet.nodes[name].wait_ready()

    def unmount_all(self):
        for node in self.fleet.nodes.values():
            node.kill()
        for path in reversed(self.mounts):
            subprocess.run(["umount", "--lazy", path], capture_output=True, timeout=60)

    def mount(self, path, *arguments):
        os.makedirs(path, exist_ok=True)
        call("mount", *arguments, path)
        self.mounts.append(path)

    def umount(self, path):
        wait_for(lambda: subprocess.run(["umount", path], capture_output=True).returncode == 0, f"umount {path}")
        self.mounts.remove(path)

    def follow(self, *include):
        self.host = self.fleet.host("web1", list(include), ["logs-a", "logs-b"])
        self.host.start().wait_ready()

    def restart(self):
        self.host.stop()
        self.host.start().wait_ready()

    def settle(self, status=0):
        done = self.host.settled(60)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        seen = self.host.status()
        self.assertEqual(seen["settled"], status == 0, seen)
        self.assertEqual(seen["gapCount"], len(seen["gaps"]), seen)

    def append(self, path, text):
        with open(path, "a") as file:
            file.write(text)

    def held(self, path):
        """What both servers hold under a path: every file's content, in order."""
        found = []
        for server in ("logs-a", "logs-b"):
            contents = []
            for row in self.fleet.files(server, "web1"):
                if row["path"] == path:
                    with open(self.fleet.stored(server, row), errors="replace") as file:
                        contents.append(file.read())
            found.append(sorted(contents))
        self.assertEqual(*found)
        return found[0]

    def all_held(self):
        contents = []
        for row in self.fleet.files("logs-a", "web1"):
            with open(self.fleet.stored("logs-a", row), errors="replace") as file:
                contents.append(file.read())
        return sorted(contents)


class Volumes(Inodes):
    """Two loop images, one a byte copy of the other: equal uuid, inode numbers, generations, birth times."""

    def image(self, name, content):
        image, mount = self.fleet.path(f"{name}.img"), os.path.join(self.logs, name)
        call("truncate", "--size", "16M", image)
        call("mkfs.ext4", "-q", image)
        self.mount(mount, "-o", "loop", image)
        self.append(os.path.join(mount, "a.log"), content)
        self.umount(mount)
        return image, mount

    def clone(self, image, name):
        copy, mount = self.fleet.path(f"{name}.img"), os.path.join(self.logs, name)
        shutil.copyfile(image, copy)
        return copy, mount

    def test_D2_a_cloned_volume_beside_its_origin(self):
        origin, first = self.image("first", "common\n")
        copy, second = self.clone(origin, "second")
        self.mount(first, "-o", "loop", origin)
        self.mount(second, "-o", "loop", copy)
        one, two = os.path.join(first, "a.log"), os.path.join(second, "a.log")
        self.assertEqual(os.stat(one).st_ino, os.stat(two).st_ino)
        self.follow(f"{self.logs}/**/*.log")
        self.settle()
        self.append(one, "of the origin\n")
        self.append(two, "of the clone, and longer\n")
        self.settle()
        self.assertEqual(self.held(one), ["common\nof the origin\n"])
        self.assertEqual(self.held(two), ["common\nof the clone, and longer\n"])
        # While the node is down both come back, in the other order and so as each other's device, and grow.
        self.host.stop()
        self.umount(first)
        self.umount(second)
        self.mount(second, "-o", "loop", copy)
        self.mount(first, "-o", "loop", origin)
        self.append(one, "grown\n")
        self.append(two, "grown too\n")
        self.host.start().wait_ready()
        self.settle()
        self.append(one, "end\n")
        self.append(two, "end too\n")
        self.settle()
        self.assertEqual(self.held(one), ["common\nof the origin\ngrown\nend\n"])
        self.assertEqual(self.held(two), ["common\nof the clone, and longer\ngrown too\nend too\n"])
        self.assertEqual(len(self.all_held()), 2)

    def test_D2_D4_a_clone_that_comes_while_the_node_is_down_and_is_listed_first(self):
        origin, mount = self.image("origin", "common\n")
        self.mount(mount, "-o", "loop", origin)
        log = os.path.join(mount, "a.log")
        self.follow(f"{self.logs}/**/*.log")
        self.settle()
        self.host.stop()
        self.umount(mount)
        copy, second = self.clone(origin, "a-clone")
        self.mount(second, "-o", "loop", copy)
        self.mount(mount, "-o", "loop", origin)
        self.append(log, "of the origin\n")
        self.append(os.path.join(second, "a.log"), "of the clone\n")
        self.host.start().wait_ready()
        self.settle()
        self.assertEqual(self.held(log), ["common\nof the origin\n"])
        self.assertEqual(self.held(os.path.join(second, "a.log")), ["common\nof the clone\n"])
        self.restart()
        self.settle()
        self.assertEqual(len(self.all_held()), 2)


class Overlays(Inodes):
    """What every container host has: logs of an image that are copied up with their first append."""

    def overlay(self, separate):
        """`separate`: the lower layer lies on a file system of its own."""
        base = self.fleet.path("layers")
        lower = os.path.join(base, "lower")
        os.makedirs(base, exist_ok=True)
        self.mount(base, "-t", "tmpfs", "layers")
        if separate:
            image = self.fleet.path("lower.img")
            call("truncate", "--size", "16M", image)
            call("mkfs.ext4", "-q", image)
            self.mount(lower, "-o", "loop", image)
        for name in ("lower", "upper", "work"):
            os.makedirs(os.path.join(base, name), exist_ok=True)
        for name in ("a.log", "b.log", "c.log"):
            self.append(os.path.join(lower, name), f"{name} of the image\n")
        self.options = ",".join(f"{name}dir={base}/{name}" for name in ("lower", "upper", "work"))
        self.mount(self.logs, "-t", "overlay", "-o", self.options, "overlay")

    def check(self, separate):
        self.overlay(separate)
        a, b, c = (os.path.join(self.logs, name) for name in ("a.log", "b.log", "c.log"))
        # Before, during and after the node's start.
        self.append(a, "before\n")
        self.follow(f"{self.logs}/*.log*")
        self.settle()
        self.append(b, "while it runs\n")
        self.settle()
        self.append(b, "and more\n")
        self.settle()
        self.host.stop()
        self.append(c, "while it is down\n")
        self.append(b, "down\n")
        self.umount(self.logs)
        self.mount(self.logs, "-t", "overlay", "-o", self.options, "overlay")
        self.host.start().wait_ready()
        self.settle()
        expected = {
            a: "a.log of the image\nbefore\n",
            b: "b.log of the image\nwhile it runs\nand more\ndown\n",
            c: "c.log of the image\nwhile it is down\n",
        }
        for path, content in expected.items():
            self.assertEqual(self.held(path), [content])
        self.assertEqual(self.all_held(), sorted(expected.values()))
        # Rotation, while it runs and while it is down.
        os.rename(a, a + ".1")
        self.append(a, "second a\n")
        self.append(a + ".1", "late\n")
        self.settle()
        self.host.stop()
        os.rename(b, b + ".1")
        self.append(b, "second b\n")
        self.append(b + ".1", "late\n")
        self.host.start().wait_ready()
        self.settle()
        contents = [expected[a] + "late\n", "second a\n", expected[b] + "late\n", "second b\n", expected[c]]
        self.assertEqual(self.all_held(), sorted(contents))

    def test_D1_copy_up_where_the_layers_share_a_file_system(self):
        self.check(separate=False)

    def test_D1_copy_up_where_the_lower_layer_has_its_own_file_system(self):
        self.check(separate=True)


class Sizes(Inodes):
    def test_G7_truncation_and_growth_while_down_is_no_gap(self):
        log = os.path.join(self.logs, "a.log")
        old = "".join(f"line {number}\n" for number in range(300))
        self.append(log, old)
        self.follow(f"{self.logs}/*.log")
        self.settle()
        self.host.stop()
        # Cut to its last lines in place, then written on.
        new = old[-200:] + "".join(f"next {number}\n" for number in range(400))
        with open(log, "r+") as file:
            file.truncate(0)
            file.write(new)
        self.host.start().wait_ready()
        self.settle()
        self.assertEqual(sorted(self.held(log)), sorted([old, new]))
        self.restart()
        self.settle()

    def test_G7_status_its_list_and_settled_agree_about_a_gap_also_after_a_restart(self):
        log = os.path.join(self.logs, "a.log")
        self.append(log, "one\n")
        self.follow(f"{self.logs}/*.log")
        self.settle()
        self.fleet.nodes["logs-b"].stop()
        self.append(log, "two\n")
        # Which servers lack a gap's bytes is told from the notes of what they acknowledged, written each second.
        wait_for(lambda: self.fleet.files("web1")[0]["durable"].get("logs-a") == 8, "that logs-a has it is noted")
        with open(log, "w") as file:
            file.write("three\n")
        wait_for(lambda: self.host.status()["gapCount"] == 1, "the gap")
        self.fleet.nodes["logs-b"].start().wait_ready()
        for _ in range(2):
            wait_for(lambda: all(s["connected"] and s["lagEvents"] == 0 for s in self.host.status()["servers"]), "both")
            self.settle(status=3)
            gap = self.host.status()["gaps"][0]
            self.assertEqual((gap["path"], gap["from"], gap["to"], gap["lacking"]), (log, 4, 8, ["logs-b"]))
            self.assertEqual(self.host.settled(30, allow_gaps=True).returncode, 0)
            self.restart()


class Leases(Inodes):
    """A node that may not take leases on others' files, with 96 descriptors."""

    def follow_as_nobody(self):
        nobody = 65534
        self.host = self.fleet.host("web1", [f"{self.logs}/*.log"], ["logs-a", "logs-b"])
        data = self.fleet.path("web1")
        for path in (self.fleet.dir, self.fleet.keys):
            os.chmod(path, 0o755)
        key = os.path.join(self.fleet.keys, "web1.key")
        os.chown(key, nobody, nobody)
        os.chown(data, nobody, nobody)
        self.prefix = ["prlimit", "--nofile=96:96", "setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups"]
        self.host.start(self.prefix).wait_ready()

    def test_F2_delivery_goes_on_without_leases(self):
        living = os.path.join(self.logs, "living.log")
        self.append(living, "one\n")
        self.follow_as_nobody()
        self.assertIsNotNone(self.host.status())
        for number in range(300):
            path = os.path.join(self.logs, f"{number}.log")
            self.append(path, f"content {number}\n")
            if number % 10 == 9:
                wait_for(lambda: len(self.fleet.files("logs-a", "web1")) >= number + 2, f"{number} files arrived")
                for earlier in range(number - 9, number + 1):
                    os.unlink(os.path.join(self.logs, f"{earlier}.log"))
        self.append(living, "two\n")
        wait_for(lambda: self.held(living) == ["one\ntwo\n"], "the living log goes on")
        self.settle()
        expected = [f"content {number}\n" for number in range(300)] + ["one\ntwo\n"]
        self.assertEqual(self.all_held(), sorted(expected))
        seen = self.host.status()
        self.assertGreater(seen["files"]["unprobed"], 0)
        self.assertLess(len(os.listdir(f"/proc/{self.host.process.pid}/fd")), 96)
        log = open(self.host.log).read()
        self.assertEqual(log.count("whether a writer still has a removed file open can't be told"), 1, log[-2000:])
        done = subprocess.run(
            [*self.prefix, BINARY, "check", "--offline", "--config", self.host.config],
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertIn("lacks CAP_LEASE", done.stdout)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: needs root, for mounts")
        sys.exit(0)
    enter_own_namespace()
    unittest.main()
