#!/usr/bin/python3
"""G1, G4: three servers, hosts that each reach some of them, everything killed with -9 at random; then hosts and one
server are gone for good, and the others end with the same set: all that ever reached one of them, each byte once.

usage: test_convergence.py [--seconds 20] [--hosts 4] [--seeds 1] [--first-seed N]
"""

import argparse
import os
import random
import shutil
import sys
import threading
import time

from harness import Failure, Fleet, sha256, strings, wait_for

SERVERS = ["logs-a", "logs-b", "logs-c"]


class Writer(threading.Thread):
    """Appends lines to the files of a host, and begins new ones, at a pace of its own until it is told to stop."""

    def __init__(self, directory, seed):
        super().__init__(daemon=True)
        self.directory, self.chance, self.ended = directory, random.Random(seed), threading.Event()

    def run(self):
        number = 0
        while not self.ended.wait(self.chance.uniform(0.001, 0.03)):
            number += 1
            name = f"{self.directory}/{self.chance.randrange(12) if self.chance.random() < 0.98 else number}.log"
            size = 200_000 if self.chance.random() < 0.01 else self.chance.randrange(1, 200)
            with open(name, "ab") as log:
                log.write(b"%d " % number + os.urandom(size).hex().encode() + b"\n")


def run(seed, seconds, count):
    chance = random.Random(seed)
    with Fleet() as fleet:
        servers = {server.name: server for server in fleet.servers(*SERVERS)}
        hosts, writers = {}, []
        for number in range(count):
            name = f"web{number}"
            logs = fleet.path("var", name)
            os.makedirs(logs)
            reached = chance.sample(SERVERS, chance.randint(1, 3))
            hosts[name] = fleet.host(name, [f"{logs}/*.log"], reached)
            hosts[name].reached = reached
            writers.append(Writer(logs, seed * 1000 + number))
        for node in [*servers.values(), *hosts.values()]:
            node.start()
        for node in [*servers.values(), *hosts.values()]:
            node.wait_ready()
        for writer in writers:
            writer.start()
        kills, end = 0, time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                time.sleep(chance.uniform(0.1, 1.0))  # The pace of the kills.
                victim = chance.choice([*servers.values(), *hosts.values()])
                victim.kill()
                victim.start()
                kills += 1
        finally:
            for writer in writers:
                writer.ended.set()
            for writer in writers:
                writer.join()
        # For good: some hosts, whatever they had not delivered, and one server.
        gone = chance.choice(SERVERS)
        for name in chance.sample(sorted(hosts), max(1, count // 5)):
            hosts.pop(name).kill()
        servers.pop(gone).kill()
        for node in [*servers.values(), *hosts.values()]:
            if not node.is_running():
                node.wait_ready()
        for host in hosts.values():
            if set(host.reached) - {gone}:
                host_settles(fleet, host, gone)
        settle(fleet, servers)
        report(fleet, seed, servers, hosts, gone, kills)


def host_settles(fleet, host, gone):
    """All that it has is on the servers that are left."""
    def is_delivered():
        status = host.status()
        return status and all(s["lagBytes"] == 0 and s["lagEvents"] == 0 for s in status["servers"] if s["name"] != gone)

    wait_for(is_delivered, f"{host.name} has delivered", 90)


def settle(fleet, servers):
    def are_equal():
        found = [strings(fleet, name) for name in servers]
        return found[0] and all(other == found[0] for other in found[1:])

    wait_for(are_equal, f"{sorted(servers)} hold the same", 90, 0.2)


def report(fleet, seed, servers, hosts, gone, kills):
    digests = {}
    for name in servers:
        for row in fleet.files(name):
            if not row["durable"]:
                continue
            path = fleet.stored(name, row)
            wait_for(lambda: os.path.getsize(path) == row["durable"], f"{path} is complete")
            digests.setdefault((row["host"], row["file"], row["root"]), set()).add(sha256(path))
    problems = [key for key, found in digests.items() if len(found) != 1]
    # What living hosts have stands there byte for byte, each file once.
    names = sorted(servers)
    for host in hosts.values():
        if not set(host.reached) - {gone}:
            continue
        held = {}
        for digest, size, path in fleet.held(names[0], host.name):
            held[digest] = held.get(digest, 0) + 1
        logs = fleet.path("var", host.name)
        for file in os.listdir(logs):
            copies = held.pop(sha256(os.path.join(logs, file)), 0)
            if copies != 1:
                problems.append(f"{host.name}/{file}: {copies} copies on {names[0]}")
        if held:
            problems.append(f"{host.name}: {len(held)} files on {names[0]} equal nothing that was written")
    received = {name: fleet.nodes[name].status()["receivedBytes"] for name in servers}
    print(f"seed {seed}: {kills} kills, {gone} and some hosts gone; {len(digests)} strings on {names}, since their last start received {received}")
    if problems:
        raise Failure("\n".join(map(str, problems[:20])))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=1)
    arguments = parser.parse_args()
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        run(seed, arguments.seconds, arguments.hosts)
