#!/usr/bin/python3
"""G1, G4: three servers, hosts that each reach some of them, rotating writers, everything killed with -9 at random; then
hosts and one server are destroyed for good. Of the survivors, each configured without that server, must hold then:

- `status --settled` is 0 on every host that has a server left, and on every server.
- The servers hold the same strings, of the same bytes by uuid, and all that had reached one of them before.
- What such a host has stands on each of them once, byte for byte; of any other host only beginnings of what it wrote.

A line for each seed says what each server received: payload bytes of all its processes, as it said of itself just before
each kill; what came between that and the kill is not in it (`unseen`: how long that was in all). It is divided by what the
server holds, each byte once. So what a kill (of a server, a host or a peer) let be sent again counts as received twice; with
`--calm` nothing is killed before the end.

More than 1.05 times fails a seed of 120 s or more (`--most-received` says another bar, for seeds of any length). Kills come
as often in a short run, but it is over before they even out: 10 s of five hosts are some 8 MB and 26 kills, and one line of
400 kB that is sent again is 5 % of that. Two minutes of ten hosts are 150 MB or more and some 200 kills; there such a line is
0.3 %, and what the figure says is how much a kill costs on the whole. So the short run in scripts/test prints it only.

usage: test_convergence.py [--seconds 10] [--hosts 5] [--seeds 1] [--first-seed N] [--output DIR] [--calm] [--most-received R]
       test_convergence.py --seconds 120 --hosts 10 --seeds 20 --output DIR    # the long form, 50 minutes
The lines are also kept in DIR, in a file named after the seeds.
"""

import argparse
import collections
import os
import random
import shutil
import sys
import threading
import time

from harness import Failure, Fleet, sha256, strings, wait_for

SERVERS = ["logs-a", "logs-b", "logs-c"]
# Of those killed, this part stays down for a while, so that several are down at a time.
STAYING_DOWN, LONGEST_DOWN = 0.3, 5.0
MOST_RECEIVED, LONG_SECONDS = 1.05, 120


class Writer(threading.Thread):
    """Appends lines to the logs of a host, rotates them and begins new ones, at a pace of its own until it is told to
    stop. Each line begins with a number that no other line of the host has."""

    def __init__(self, directory, seed):
        super().__init__(daemon=True)
        self.directory, self.chance, self.ended = directory, random.Random(seed), threading.Event()
        self.number, self.logs = 0, {}

    def run(self):
        while not self.ended.wait(self.chance.uniform(0.001, 0.03)):
            name, drawn = self.chance.randrange(12), self.chance.random()
            if drawn < 0.01:
                self.rotate(name)
            elif drawn < 0.03:
                name = f"once-{self.number}"
            self.write(name)
            if name not in range(12):
                os.close(self.logs.pop(name))
        for log in self.logs.values():
            os.close(log)

    def write(self, name):
        self.number += 1
        if name not in self.logs:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self.logs[name] = os.open(f"{self.directory}/{name}.log", flags, 0o644)
        size = 200_000 if self.chance.random() < 0.005 else self.chance.randrange(1, 200)
        os.write(self.logs[name], b"%d " % self.number + os.urandom(size).hex().encode() + b"\n")

    def rotate(self, name):
        """As logrotate and a service do it: what is written until the log is opened anew goes to the renamed file."""
        if name in self.logs:
            os.rename(f"{self.directory}/{name}.log", f"{self.directory}/{name}.log.{self.number}")
            self.write(name)
            os.close(self.logs.pop(name))


class Convergence:
    def __init__(self, fleet, seed, count):
        self.fleet, self.chance = fleet, random.Random(seed)
        self.servers = {server.name: server for server in fleet.servers(*SERVERS)}
        self.hosts, self.writers, self.reached = {}, [], {}
        self.kills = 0
        # By server: payload bytes of processes that have ended, and seconds between what they said and their end.
        self.received, self.unseen = collections.Counter(), collections.Counter()
        for number in range(count):
            name = f"web{number}"
            os.makedirs(self.logs(name))
            self.reached[name] = set(self.chance.sample(SERVERS, self.chance.randint(1, len(SERVERS))))
            self.hosts[name] = self.host(name)
            self.writers.append(Writer(self.logs(name), seed * 1000 + number))

    def logs(self, host):
        return self.fleet.path("var", host)

    def host(self, name):
        return self.fleet.host(name, [f"{self.logs(name)}/*.log*"], sorted(self.reached[name]))

    def nodes(self):
        return [*self.servers.values(), *self.hosts.values()]

    def kill(self, node):
        if not node.is_running():
            raise Failure(f"{node.name} ended by itself with {node.process.returncode}")
        if node.name in self.servers:
            asked = time.monotonic()
            said = node.answer()
            node.kill()
            # Before it answers nobody it has taken nothing.
            if said:
                self.received[node.name] += said["receivedBytes"]
                self.unseen[node.name] += time.monotonic() - asked
        else:
            node.kill()
        self.kills += 1

    def run(self, seconds, is_calm):
        for node in self.nodes():
            node.start()
        for node in self.nodes():
            node.wait_ready()
        for writer in self.writers:
            writer.start()
        try:
            if is_calm:
                time.sleep(seconds)  # What the writers write meanwhile is what is tested.
            else:
                self.kill_at_random(seconds)
            self.destroy()
        finally:
            for writer in self.writers:
                writer.ended.set()
            for writer in self.writers:
                writer.join()

    def kill_at_random(self, seconds):
        """Each is started again, some at once, some later."""
        end, down = time.monotonic() + seconds, {}
        while (now := time.monotonic()) < end:
            for node in [node for node, until in down.items() if until <= now]:
                down.pop(node)
                node.start()
            if up := [node for node in self.nodes() if node not in down]:
                victim = self.chance.choice(up)
                self.kill(victim)
                if self.chance.random() < STAYING_DOWN:
                    down[victim] = now + self.chance.uniform(0, LONGEST_DOWN)
                else:
                    victim.start()
            time.sleep(self.chance.uniform(0.1, 1.0))  # The pace of the kills.
        for node in down:
            node.start()

    def destroy(self):
        """Some hosts and one server, for good, with all that they had and whatever they were doing."""
        gone = self.servers.pop(self.chance.choice(SERVERS))
        hosts = [self.hosts.pop(name) for name in self.chance.sample(sorted(self.hosts), max(1, len(self.hosts) // 5))]
        for node in [gone, *hosts]:
            self.kill(node)
            shutil.rmtree(self.fleet.path(node.name))
        self.destroyed = [node.name for node in [gone, *hosts]]
        for node in self.nodes():
            node.wait_ready()
        self.had_reached = {name: strings(self.fleet, name) for name in self.servers}

    def settle(self):
        """What an operator does about a server that won't come back: it is taken out of every configuration."""
        gone = self.destroyed[0]
        for name, node in self.servers.items():
            self.kill(node)
            self.servers[name] = self.fleet.server(name, [peer for peer in self.servers if peer != name])
        for name, node in self.hosts.copy().items():
            self.kill(node)
            self.reached[name].discard(gone)
            if self.reached[name]:
                self.hosts[name] = self.host(name)
            else:
                del self.hosts[name]
        for node in self.nodes():
            node.start()
        for node in self.nodes():
            node.wait_ready()
        # Hosts first: a server settles what it held when it was asked.
        for node in [*self.hosts.values(), *self.servers.values()]:
            done = node.settled(120)
            if done.returncode != 0:
                raise Failure(f"{node.name}: status --settled ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def check(self):
        """Returns the number of files and of bytes that all hold."""
        names = sorted(self.servers)
        held = [strings(self.fleet, name) for name in names]
        if not held[0] or any(other != held[0] for other in held):
            raise Failure(f"settled, and {names} hold different strings")
        lines = {self.fleet.digest(name) for name in names}
        if len(lines) != 1:
            raise Failure(f"equal strings, and the digests of {names} are {lines} (M2)")
        digests = [self.digests(name) for name in names]
        problems = [f"{key} differs" for key in digests[0] if any(other.get(key) != digests[0][key] for other in digests)]
        for name, before in self.had_reached.items():
            for key, heads in before.items():
                if max(heads)[0] > max(held[0].get(key, [(0, "")]))[0]:
                    problems.append(f"{key} had reached {name} up to {max(heads)[0]}, and it isn't held")
        for host in self.reached:
            problems += [problem for name in names for problem in self.compare(name, host)]
        if problems:
            raise Failure("\n".join(problems[:20]) + f"\n({len(problems)} problems in all)")
        return len(digests[0]), sum(max(heads)[0] for heads in held[0].values())

    def digests(self, server):
        """{(host, uuid): SHA-256} of what it holds."""
        found = {}
        for row in self.fleet.files(server):
            if row["branches"]:
                raise Failure(f"{server} has branches of {row}: every byte is the host's own")
            if row["durable"]:
                path = self.fleet.stored(server, row)
                wait_for(lambda: os.path.getsize(path) == row["durable"], f"{path} is complete")
                found[row["host"], row["file"]] = sha256(path)
        return found

    def compare(self, server, host):
        """What the server has of a host with what that wrote: whole and once if it could deliver all, else beginnings."""
        written = {}
        for name in os.listdir(self.logs(host)):
            path = os.path.join(self.logs(host), name)
            written[self.beginning(path)] = path
        for _, size, path in self.fleet.held(server, host):
            if not size:
                continue
            log = written.pop(self.beginning(path), None)
            if not log:
                yield f"{path} begins as nothing that was written, or as another one"
            elif not self.begins_with(log, path):
                yield f"{path} isn't what was written to {log}"
            elif host in self.hosts and size != os.path.getsize(log):
                yield f"{path} has {size} of {os.path.getsize(log)} bytes"
        if host in self.hosts:
            yield from (f"{log} isn't on {server}" for log in written.values())

    @staticmethod
    def beginning(path):
        with open(path, "rb") as file:
            return file.read(20).split(b" ")[0]

    @staticmethod
    def begins_with(log, path):
        with open(log, "rb") as whole, open(path, "rb") as beginning:
            while piece := beginning.read(1 << 20):
                if piece != whole.read(len(piece)):
                    return False
        return True


def run(seed, chosen):
    """Returns the line that says what was found."""
    with Fleet() as fleet:
        world = Convergence(fleet, seed, chosen.hosts)
        world.run(chosen.seconds, chosen.calm)
        world.settle()
        files, size = world.check()
        without = [name for name in world.reached if name not in world.hosts and name not in world.destroyed]
        received = {
            name: (world.received[name] + server.answer()["receivedBytes"]) / size for name, server in world.servers.items()
        }
        line = (
            f"seed {seed}: {chosen.seconds:g} s, {chosen.hosts} hosts, {world.kills} kills; {', '.join(world.destroyed)} "
            f"destroyed, without a server {', '.join(without) or 'none'}; settled, equal: {files} files, {size} bytes; received "
            + ", ".join(f"{name} {ratio:.4f} (unseen {1000 * world.unseen[name]:.0f} ms)" for name, ratio in received.items())
        )
    if max(received.values()) > chosen.most_received:
        raise Failure(f"more than {chosen.most_received} times what they hold was received: {line}")
    return line


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--hosts", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--output", metavar="DIR", help="also keep the lines in a file of this directory")
    parser.add_argument("--calm", action="store_true")
    parser.add_argument("--most-received", type=float)
    chosen = parser.parse_args()
    if chosen.most_received is None:
        chosen.most_received = MOST_RECEIVED if chosen.seconds >= LONG_SECONDS else float("inf")
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    kept = os.devnull
    if chosen.output:
        os.makedirs(chosen.output, exist_ok=True)
        kept = os.path.join(chosen.output, f"convergence-{seeds[0]}-{seeds[-1]}.txt")
    failed = 0
    with open(kept, "a") as output:
        for seed in seeds:
            try:
                line = run(seed, chosen)
            except Failure as failure:
                failed += 1
                line = f"seed {seed}: FAILED: {failure}"
            for stream in (sys.stdout, output):
                print(line, file=stream, flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
