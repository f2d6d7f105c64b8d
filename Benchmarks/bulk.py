#!/usr/bin/python3
"""How long until 1 GiB is on the other side's disk: ours and wget over TLS, in turn, in one run.

usage: bulk.py [--megabytes 1024] [--rounds 7] [--directory DIR]

Ours: the file is renamed into a followed directory of a running host; the clock stops when `status --settled` says that
the server acknowledged every byte as durable (journaled, verified against a signed root, synced).
wget: from nginx over TLS 1.3 with a certificate of the same authority, onto the same file system, `fdatasync` included.
Both read from the page cache. CPU seconds are those of all processes on both sides, peak memory the greatest VmHWM.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "Tests", "EndToEnd"))
from harness import Failure, Fleet, free_port, sha256, wait_for  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def peak_megabytes(pids):
    peaks = []
    for pid in pids:
        with open(f"/proc/{pid}/status") as file:
            peaks += [int(line.split()[1]) for line in file if line.startswith("VmHWM")]
    return max(peaks) / 1024


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


class Nginx:
    def __init__(self, fleet):
        fleet.run("keys", "issue", fleet.keys, "--name", "localhost", "--role", "server", "--out", fleet.keys)
        self.port = free_port()
        self.root = fleet.path("nginx")
        os.makedirs(self.root)
        with open(fleet.path("nginx.conf"), "w") as file:
            file.write(
                f"daemon off; worker_processes 1; pid {self.root}/pid; error_log {self.root}/error.log;\n"
                f"events {{}}\nhttp {{ access_log off; sendfile on;\n"
                f"  client_body_temp_path {self.root}/b; proxy_temp_path {self.root}/p; fastcgi_temp_path {self.root}/f;\n"
                f"  uwsgi_temp_path {self.root}/u; scgi_temp_path {self.root}/s;\n"
                f"  server {{ listen 127.0.0.1:{self.port} ssl; ssl_protocols TLSv1.3; root {self.root}/www;\n"
                f"    ssl_certificate {fleet.keys}/localhost.crt; ssl_certificate_key {fleet.keys}/localhost.key; }} }}\n"
            )
        os.makedirs(f"{self.root}/www")
        os.chmod(fleet.dir, 0o755)
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        # The worker keeps this user: the key is readable by it alone.
        self.process = subprocess.Popen([binary, "-g", "user root;" if os.getuid() == 0 else "", "-c", fleet.path("nginx.conf")])
        wait_for(lambda: os.path.exists(f"{self.root}/pid") and children(self.process.pid), "nginx runs", 10)
        self.pids = [self.process.pid, *children(self.process.pid)]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def wget_round(fleet, nginx, size):
    target = fleet.path("wget.out")
    cpu = cpu_seconds(nginx.pids)
    begin = time.monotonic()
    process = subprocess.Popen(
        ["wget", "-q", f"--ca-certificate={fleet.keys}/ca.crt", "-O", target, f"https://localhost:{nginx.port}/bulk.bin"]
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise Failure(f"wget ended with {status}")
    descriptor = os.open(target, os.O_RDWR)
    os.fdatasync(descriptor)
    os.close(descriptor)
    seconds = time.monotonic() - begin
    assert os.path.getsize(target) == size
    os.unlink(target)
    return seconds, cpu_seconds(nginx.pids) - cpu + usage.ru_utime + usage.ru_stime, max(peak_megabytes(nginx.pids), usage.ru_maxrss / 1024)


def our_round(source, size):
    with Fleet() as fleet:
        logs = fleet.path("log")
        os.makedirs(logs)
        server = fleet.server("logs-a").start()
        host = fleet.host("web1", [f"{logs}/*.bin"], ["logs-a"])
        host.start()
        server.wait_ready()
        wait_for(lambda: (host.status() or {"servers": [{"connected": False}]})["servers"][0]["connected"], "the host is connected")
        os.link(source, os.path.join(fleet.dir, "waiting"))
        pids = [server.process.pid, host.process.pid]
        cpu = cpu_seconds(pids)
        begin = time.monotonic()
        os.rename(os.path.join(fleet.dir, "waiting"), os.path.join(logs, "bulk.bin"))
        done = host.settled(120)
        seconds = time.monotonic() - begin
        if done.returncode != 0:
            raise Failure(f"not settled: {done.stdout}{done.stderr}")
        used, peak = cpu_seconds(pids) - cpu, peak_megabytes(pids)
        stored = fleet.held("logs-a", "web1")
        assert len(stored) == 1 and stored[0][1] == size and stored[0][0] == sha256(source), stored
        return seconds, used, peak


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", help="file system to use (default: the temporary directory's)")
    chosen = parser.parse_args()
    if chosen.directory:
        os.environ["NIMBUS_TEST_DIR"] = chosen.directory
    if not (shutil.which("nginx") or os.path.exists("/usr/sbin/nginx")) or not shutil.which("wget"):
        sys.exit("bulk.py needs nginx and wget: apt-get install nginx-light wget")
    size = chosen.megabytes << 20
    rounds = {"wget": [], "ours": []}
    with Fleet() as fleet:
        nginx = Nginx(fleet)
        source = fleet.path("nginx", "www", "bulk.bin")
        with open(source, "wb") as file:
            chance = random.Random(1)
            for _ in range(chosen.megabytes):
                file.write(chance.randbytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
        try:
            for _ in range(chosen.rounds):
                rounds["wget"].append(wget_round(fleet, nginx, size))
                rounds["ours"].append(our_round(source, size))
        finally:
            nginx.stop()
    medians = {}
    for name, results in rounds.items():
        speeds = [chosen.megabytes / seconds for seconds, _, _ in results]
        medians[name] = statistics.median(speeds)
        print(
            f"{name}: {medians[name]:.0f} MiB/s ({min(speeds):.0f} to {max(speeds):.0f}), "
            f"CPU of both sides {statistics.median(r[1] for r in results):.2f} s, "
            f"peak memory of a process {max(r[2] for r in results):.0f} MiB"
        )
    print(f"ratio of medians, ours to wget, {chosen.rounds} rounds of {chosen.megabytes} MiB: {medians['ours'] / medians['wget']:.2f}")


if __name__ == "__main__":
    main()
