"""Real nodes, real files, real signals, on loopback: what the end-to-end tests share.

Nothing here sleeps as synchronisation: `wait_for` polls a condition and fails at its limit. Every process started is
ended by its process id, every directory made is removed.
"""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get("NIMBUS_BINARY", os.path.join(ROOT, ".build", "release", "nimbus-journal"))


class Failure(AssertionError):
    pass


def wait_for(condition, what, limit=30.0, pause=0.02):
    """Returns the first true value of `condition()`; fails after `limit` seconds."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"not within {limit:g} s: {what}")
        time.sleep(pause)


def free_port():
    """Below the range that outgoing connections take theirs from: who is down for a while finds it free again."""
    for _ in range(100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            port = random.randrange(10_000, 32_768)
            probe.bind(("127.0.0.1", port))
            return port
    raise Failure("no port is free")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class Node:
    """One `nimbus-journal node` process that can be killed and started again."""

    def __init__(self, fleet, name, config):
        self.fleet = fleet
        self.name = name
        self.config = config
        self.process = None
        self.log = os.path.join(fleet.dir, f"{name}.stderr")
        self.starts = 0

    def start(self, prefix=()):
        assert self.process is None
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*prefix, BINARY, "node", "--config", self.config], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.starts += 1
        return self

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self, limit=15):
        """SIGTERM; fails when the node doesn't end cleanly in time."""
        status = self._end(signal.SIGTERM, limit)
        if status != 0:
            raise Failure(f"{self.name} ended with {status} on SIGTERM, see its log:\n{self.tail()}")

    def _end(self, signal_number, limit=15):
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        try:
            return self.process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure(f"{self.name} did not end within {limit} s of signal {signal_number}")
        finally:
            self.process = None

    def tail(self, lines=25):
        with contextlib.suppress(OSError), open(self.log, errors="replace") as log:
            return "".join(log.readlines()[-lines:])
        return ""

    def anonymous(self):
        """Bytes of anonymous memory; RssFile, which is the store's map, isn't the node's own."""
        with contextlib.suppress(OSError), open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith("RssAnon"):
                    return int(line.split()[1]) << 10
        return 0

    def reports(self, since=0):
        """Lines of the log, behind so many bytes of it: warnings and errors."""
        with open(self.log, errors="replace") as log:
            log.seek(since)
            return [line.rstrip() for line in log if re.match(r"\S+ (warning|error|critical) ", line)]

    def status(self):
        """`status --json`, or None while the node doesn't answer."""
        done = self.fleet.run("status", "--config", self.config, "--json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def answer(self, limit=5):
        """The same, asked without a process in between; None while nobody listens."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(limit)
            try:
                control.connect(self.fleet.path(self.name, "data", "control.sock"))
            except (FileNotFoundError, ConnectionRefusedError):
                return None
            control.sendall(b'{"status":{}}\n')
            with control.makefile() as answer:
                return json.loads(answer.readline())["status"]

    def wait_ready(self, limit=30):
        def answers():
            if not self.is_running():
                raise Failure(f"{self.name} ended while starting:\n{self.tail()}")
            return self.status()

        return wait_for(answers, f"{self.name} answers", limit)

    def settled(self, timeout, allow_gaps=False):
        """Exit status and output of `status --settled`."""
        arguments = ["status", "--config", self.config, "--settled", f"{timeout}s"]
        if allow_gaps:
            arguments.append("--allow-gaps")
        return self.fleet.run(*arguments, check=False, timeout=timeout + 30)


class Fleet:
    """A private authority, servers and hosts below one temporary directory."""

    def __init__(self, keep=False):
        self.dir = tempfile.mkdtemp(prefix="nimbus-e2e-", dir=os.environ.get("NIMBUS_TEST_DIR"))
        self.keep = keep
        self.nodes = {}
        self.ports = {}
        # Where a server is reached in configurations that are written from now on, if not at its own port.
        self.fronts = {}
        self.keys = os.path.join(self.dir, "keys")
        self.run("keys", "authority", self.keys)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for node in self.nodes.values():
            with contextlib.suppress(Failure):
                node.kill()
        if kind is not None:
            for node in self.nodes.values():
                print(f"--- last lines of {node.name}\n{node.tail()}", file=sys.stderr)
        if not self.keep and not (kind is not None and os.environ.get("NIMBUS_KEEP")):
            # Python's own way of doing it stops at directories as deep as hosts may make them.
            subprocess.run(["rm", "-rf", "--", self.dir], check=False)
        else:
            print(f"kept: {self.dir}", file=sys.stderr)

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def run(self, *arguments, check=True, timeout=60):
        done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise Failure(f"nimbus-journal {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done

    def digest(self, server):
        """The line of `inspect digest`."""
        return self.run("inspect", "digest", "--config", self.nodes[server].config).stdout

    def issue(self, name, role):
        if not os.path.exists(os.path.join(self.keys, f"{name}.crt")):
            self.run("keys", "issue", self.keys, "--name", name, "--role", role, "--out", self.keys)

    def _write(self, name, text):
        config = self.path(f"{name}.yaml")
        with open(config, "w") as file:
            file.write(text)
        node = Node(self, name, config)
        self.nodes[name] = node
        return node

    def _common(self, name):
        return (
            f"node:\n  name: {name}\n  data: {self.path(name, 'data')}\n"
            f"tls:\n  certificate: {self.keys}/{name}.crt\n  key: {self.keys}/{name}.key\n"
            f"  authorities: {self.keys}/ca.crt\n"
        )

    def _reached(self, server):
        return f"    - {{ name: {server}, address: \"127.0.0.1:{self.fronts.get(server, self.ports[server])}\" }}\n"

    def server(self, name, peers=()):
        """`peers`: of which the ports are known already (`servers`)."""
        self.issue(name, "server")
        self.ports.setdefault(name, free_port())
        os.makedirs(self.path(name), exist_ok=True)
        text = f"server:\n  listen: 127.0.0.1:{self.ports[name]}\n  logs: {self.logs(name)}\n  clients: mutual\n"
        if peers:
            text += "  peers:\n"
        for peer in peers:
            text += self._reached(peer)
        return self._write(name, self._common(name) + text)

    def servers(self, *names):
        """Servers that are one another's peers."""
        for name in names:
            self.ports[name] = free_port()
        return [self.server(name, [peer for peer in names if peer != name]) for name in names]

    def host(self, name, include, servers, exclude=()):
        self.issue(name, "host")
        os.makedirs(self.path(name), exist_ok=True)
        quote = json.dumps
        text = self._common(name) + "host:\n  follow:\n"
        text += f"    - include: [{', '.join(map(quote, include))}]\n"
        if exclude:
            text += f"      exclude: [{', '.join(map(quote, exclude))}]\n"
        text += "  servers:\n"
        for server in servers:
            text += self._reached(server)
        return self._write(name, text)

    def logs(self, server):
        return self.path(server, "logs")

    def files(self, name, host=None):
        """`inspect files --json` as a list of dictionaries."""
        arguments = ["inspect", "files", "--config", self.nodes[name].config, "--json"]
        if host:
            arguments += ["--host", host]
        return [json.loads(line) for line in self.run(*arguments).stdout.splitlines()]

    def stored(self, server, row):
        """The plain file's path of an `inspect files` row, as bytes."""
        return os.path.join(self.logs(server).encode(), row["stored"].encode("utf-8", "surrogateescape"))

    def held(self, server, host):
        """SHA-256 of every non-empty plain file that the server holds of the host, with its path."""
        top = os.path.join(self.logs(server), "files", host).encode()
        found = []
        for directory, _, names in os.walk(top):
            for name in names:
                path = os.path.join(directory, name)
                found.append((sha256(path), os.path.getsize(path), path))
        return found


def mount_image(image, point, size, inodes):
    """An ext4 file system of its own, which needs root; unmounting it removes its files at once."""
    os.makedirs(point)
    with open(image, "wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-I", "256", "-N", str(inodes), image], check=True)
    subprocess.run(["mount", "-o", "loop,noatime", image, point], check=True)
    return point


@contextlib.contextmanager
def fleet_on_image(size, inodes):
    """For many files: on a disk removing them one by one would take longer than all else."""
    with Fleet() as fleet:
        top = fleet.dir
        fleet.dir = mount_image(f"{top}/image", f"{top}/disk", size, inodes)
        try:
            yield fleet
        finally:
            for node in fleet.nodes.values():
                node.kill()
            subprocess.run(["umount", fleet.dir], check=True)
            fleet.dir = top


class Lines:
    """A log below a directory of its own, to which lines are written one after the other, each when the one before it is
    readable on the server: durable, and in the plain file."""

    def __init__(self, fleet, server, host):
        self.fleet, self.server, self.host = fleet, server, host
        self.directory = fleet.path("log")
        os.makedirs(self.directory)
        self.path = os.path.join(self.directory, "line.log")
        self.file = open(self.path, "ab", buffering=0)
        self.written = 0
        self.top = os.path.join(fleet.logs(server), "files", host, self.directory.lstrip("/"))

    def close(self):
        self.file.close()

    def stored(self):
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.top):
                return os.path.join(self.top, name)
        return None

    def write(self, limit):
        """The next one; returns the milliseconds that it took."""
        self.file.write(b"%015d\n" % self.written)
        self.written += 16
        begin = time.perf_counter()
        path = None
        while True:
            path = path or self.stored()
            if path and os.path.getsize(path) >= self.written:
                return (time.perf_counter() - begin) * 1000
            if time.perf_counter() - begin > limit:
                return limit * 1000
            time.sleep(0.0005)

    def latencies(self, until, limit=20, pause=0.025):
        """Of one line after another, a line each `pause` at most, while `until()` is false."""
        found = []
        while True:
            found.append(self.write(limit))
            if until():
                return found
            time.sleep(max(0.0, pause - found[-1] / 1000))


class ManyLogs:
    """Logs of a host, a thousand in a directory, which are new or grow by a line."""

    LINE = 100

    def __init__(self, fleet, host):
        self.host, self.top = host, fleet.path("var", host)
        self.pattern = f"{self.top}/*/*.log"
        self.paths, self.bytes = set(), 0

    def write(self, numbers, lines=1):
        for number in numbers:
            line = b"%0*d\n" % (self.LINE - 1, number)
            self.append(f"{number // 1_000:04}/{number}.log", line * lines)

    def append(self, name, data):
        path = os.path.join(self.top, name)
        if path not in self.paths:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self.paths.add(path)
        with open(path, "ab") as log:
            log.write(data)
        self.bytes += len(data)

    def are_held(self, server):
        """By its own totals."""
        held = [(host["files"], host["bytes"]) for host in server.answer(60)["hosts"] if host["name"] == self.host]
        return held == [(len(self.paths), self.bytes)]

    def check(self, found):
        """`found`: `contents` of a server."""
        held = [string for (host, _), strings in found.items() if host == self.host for string in strings]
        if sorted(held) != sorted((os.path.getsize(path), sha256(path)) for path in self.paths):
            raise Failure(f"what is held of {self.host} isn't what it wrote")


class Peak:
    """The greatest value of a function while it is watched, looked at every 10 ms."""

    def __init__(self, value):
        self.value, self.greatest, self.ended = value, 0, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self):
        while not self.ended.wait(0.01):
            self.greatest = max(self.greatest, self.value())

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def start(*nodes, limit=120):
    """All at once; returns when each answers."""
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_ready(limit)


def settle(node, limit=600):
    done = node.settled(limit)
    if done.returncode != 0:
        raise Failure(f"{node.name}: status --settled ended with {done.returncode}: {done.stdout}{done.stderr}")


def percentile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def strings(fleet, server):
    """What a server holds, by host and file: the length and root of the first string."""
    found = {}
    for row in fleet.files(server):
        if row["durable"]:
            found.setdefault((row["host"], row["file"]), set()).add((row["durable"], row["root"]))
    return found


def contents(fleet, server, limit=30):
    """What a server holds, by host and file, once the plain files are complete: the length and SHA-256 of each string."""
    found = {}
    for row in fleet.files(server):
        whole = {}
        # What lies before a branch's own bytes is its base's. Which string is the first one is each server's own matter.
        first = dict(row, offset=0, base=None, length=row["durable"])
        for string in [first, *row["branches"]] if row["durable"] else []:
            path, own = fleet.stored(server, string), string["length"] - string["offset"]
            wait_for(lambda: os.path.getsize(path) == own, f"{path} has {own} bytes", limit)
            with open(path, "rb") as file:
                before = whole[string["base"]][: string["offset"]] if string["base"] else b""
                whole[string["stored"]] = before + file.read()
        if whole:
            found[row["host"], row["file"]] = {(len(data), hashlib.sha256(data).hexdigest()) for data in whole.values()}
    return found


def expect_equal(fleet, *servers, limit=30):
    """M2, M3: they end with the same, and it isn't nothing: digests as each says of itself and of its peers, and as computed
    from the rows; the bytes of all strings. Returns these: `contents`."""

    def digests():
        statuses = [fleet.nodes[server].answer() for server in servers]
        if not all(statuses):
            return None
        found = {status["digest"] for status in statuses}
        for status in statuses:
            peers = [peer for peer in status["peers"] if peer["name"] in servers]
            found |= {peer["digest"] if peer["equal"] else None for peer in peers}
        return found if len(found) == 1 and None not in found else None

    (digest,) = wait_for(digests, f"{servers} and their peers have one digest", limit)
    lines = {fleet.digest(server) for server in servers}
    if len(lines) != 1 or lines.pop().split()[0] != digest:
        raise Failure(f"{servers} say {digest}, their rows {[fleet.digest(server) for server in servers]} (M2)")
    found = [contents(fleet, server, limit) for server in servers]
    for server, other in zip(servers, found):
        differing = [key for key in {*found[0], *other} if other.get(key) != found[0].get(key)]
        if differing or not other:
            raise Failure(f"{server} and {servers[0]} hold nothing, or others of {len(differing)} files: {differing[:5]}")
    return found[0]


def compare_with_truth(fleet, server, host, truth):
    """Every string that the writer wrote is held exactly once, and nothing else is. `truth`: {label: path}."""
    expected = {}
    for label, path in truth.items():
        if os.path.getsize(path):
            expected.setdefault(sha256(path), []).append((label, os.path.getsize(path)))
    held = {}
    for digest, size, path in fleet.held(server, host):
        if size:
            held.setdefault(digest, []).append((path, size))
    problems = []
    for digest, labels in expected.items():
        copies = held.pop(digest, [])
        if len(copies) != len(labels):
            problems.append(f"{labels}: {len(copies)} copies on {server}")
    for paths in held.values():
        problems.append(f"{paths} on {server} equals nothing that was written")
    if problems:
        raise Failure("\n".join(problems[:20]) + f"\n({len(problems)} problems in all)")
    return sum(size for copies in expected.values() for _, size in copies)
