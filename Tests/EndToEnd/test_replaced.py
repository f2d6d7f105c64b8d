#!/usr/bin/python3
"""G4, M3, P3: a server that is replaced while its hosts are off gets from its peer what it lacks then, and nothing else.

`logs-b` and its peer hold the same files of a host. A copy of logs-b is taken, and both hold a part more of new files and
of growth. Then, one after the other, logs-b is killed and

- both its directories are gone (`empty`);
- both are those of the copy (`copy`);
- node.data alone is that of the copy, and server.logs is as it was, newer (`copy of node.data`);
- both are those of the copy, and a host that reaches nobody else delivers so much to it that its feed has come further than
  its peer had read it in that other life, before they meet again (`copy, grown`).

Each time they end with the same digest, strings and bytes, the host's, and `status --settled` is 0 on both. A line for each
says what logs-b lacked by its own rows before it started, and which payload each received: a multiple of what it lacked.

usage: test_replaced.py [--files 5000] [--bulk 20] [--image] [--only KIND]
       test_replaced.py --files 100000 --image    # the stores lie on an ext4 image of their own, which needs root
"""

import argparse
import os
import random
import subprocess
import time

from harness import Failure, Fleet, ManyLogs, expect_equal, fleet_on_image, free_port, settle, start, strings, wait_for
from link import links

SERVERS = ["logs-a", "logs-b"]
MIB = 1 << 20
KINDS = ["empty", "copy", "copy of node.data", "copy, grown"]


class Replaced:
    def __init__(self, fleet, between, chosen):
        self.fleet, self.between, self.chosen = fleet, between, chosen
        self.chance = random.Random(1)
        self.a, self.b = (fleet.server(name, [peer for peer in SERVERS if peer != name]) for name in SERVERS)
        fleet.fronts = {}
        self.data, self.root = fleet.path("logs-b", "data"), fleet.logs("logs-b")
        self.logs = [ManyLogs(fleet, "web1")]
        self.host = fleet.host("web1", [self.logs[0].pattern], SERVERS)

    def prepare(self):
        files, (logs,) = self.chosen.files, self.logs
        logs.write(range(files), lines=10)
        logs.append("bulk/bulk.log", self.chance.randbytes(self.chosen.bulk * MIB))
        start(self.a, self.b, self.host)
        self.settle(self.host)
        self.b.stop(60)
        os.mkdir(self.fleet.path("copy"))
        for directory in (self.data, self.root):
            subprocess.run(["cp", "-a", "--", directory, self.fleet.path("copy")], check=True)
        start(self.b)
        logs.write(range(files // 5))
        logs.write(range(files, files + files // 5), lines=10)
        logs.append("bulk/bulk.log", self.chance.randbytes(self.chosen.bulk * MIB // 4))
        self.settle(self.host)
        self.host.stop(60)

    def settle(self, *first):
        for node in (*first, self.a, self.b):
            settle(node)

    def replace(self, directory, by_copy):
        subprocess.run(["rm", "-rf", "--", directory], check=True)
        if by_copy:
            copy = self.fleet.path("copy", os.path.basename(directory))
            subprocess.run(["cp", "-a", "--", copy, directory], check=True)

    def grow(self):
        """More files of a host that delivers to logs-b alone than there are changes after the copy."""
        logs = ManyLogs(self.fleet, "web2")
        logs.write(range(self.chosen.files), lines=10)
        self.logs.append(logs)
        host = self.fleet.host("web2", [logs.pattern], ["logs-b"])
        start(host)
        settle(host)
        host.stop(60)

    def lacking(self, held, other):
        """Files and bytes of `other` that aren't in `held`, where each is the beginning of the other."""
        found = {key: max(heads)[0] - max(held.get(key, {(0, "")}))[0] for key, heads in other.items()}
        return sum(count > 0 for count in found.values()), sum(max(0, count) for count in found.values())

    def round(self, kind):
        self.b.kill()
        is_grown = kind == "copy, grown"
        self.replace(self.data, kind != "empty")
        if kind != "copy of node.data":
            self.replace(self.root, kind != "empty")
        if is_grown:
            for link in self.between.values():
                link.cut()
            start(self.b)
            self.grow()
        here = strings(self.fleet, "logs-b") if os.path.exists(self.data) else {}
        there = strings(self.fleet, "logs-a")
        lacks = self.lacking(here, there), self.lacking(there, here)
        if not lacks[0][1] or is_grown != (lacks[1][1] > 0):
            raise Failure(f"{kind}: logs-b lacks {lacks[0]}, its peer {lacks[1]} files and bytes")
        before = self.a.answer()["receivedBytes"], self.b.answer()["receivedBytes"] if is_grown else 0
        begun = time.monotonic()
        if is_grown:
            for link in self.between.values():
                link.mend()
        else:
            start(self.b)
        wait_for(
            lambda: all(logs.are_held(server) for logs in self.logs for server in (self.a, self.b)), "both hold all", 1_800,
            pause=0.1)
        seconds = time.monotonic() - begun
        found = expect_equal(self.fleet, *SERVERS, limit=600)
        equal = time.monotonic() - begun
        self.settle()
        for logs in self.logs:
            logs.check(found)
        texts = []
        for server, began, (files, size) in zip((self.b, self.a), reversed(before), lacks):
            received = server.answer()["receivedBytes"] - began
            share = f"{received / size:.5f} x" if size else "nothing lacked"
            texts.append(f"{server.name} lacked {size} bytes of {files} files and received {received} ({share})")
        print(f"{kind}: {'; '.join(texts)}; all held after {seconds:.1f} s, compared after {equal:.1f} s, settled", flush=True)


def run(chosen):
    room = 6 * chosen.files * 20_000 + 20 * chosen.bulk * MIB + (1 << 30), chosen.files * 30 + 50_000
    with fleet_on_image(*room) if chosen.image else Fleet() as fleet:
        fleet.ports.update({name: free_port() for name in SERVERS})
        with links(fleet, SERVERS) as between:
            replaced = Replaced(fleet, between, chosen)
            replaced.prepare()
            for kind in [chosen.only] if chosen.only else KINDS:
                replaced.round(kind)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--bulk", type=int, default=20, help="MiB of one file beside them")
    parser.add_argument("--image", action="store_true")
    parser.add_argument("--only", choices=KINDS)
    run(parser.parse_args())
