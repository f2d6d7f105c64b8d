"""Writes numbered lines in torn pieces at a steady rate and keeps its own record of what it wrote.

usage: writer.py LOG TRUTH_DIR LINES_PER_SECOND SECONDS

SIGHUP: reopen LOG (what logrotate's postrotate asks for). Each opening gets a file of its own in TRUTH_DIR with exactly
the bytes that write(2) took. Ends by itself after SECONDS, or on SIGTERM.
"""

import os
import random
import signal
import sys
import time

log, truth, rate, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
choose = random.Random(os.path.basename(log))
reopen, ended = True, False


def on_hangup(*_):
    global reopen
    reopen = True


def on_term(*_):
    global ended
    ended = True


signal.signal(signal.SIGHUP, on_hangup)
signal.signal(signal.SIGTERM, on_term)
with open(os.path.join(truth, "pid.tmp"), "w") as file:
    file.write(str(os.getpid()))
os.rename(os.path.join(truth, "pid.tmp"), os.path.join(truth, "pid"))

output = record = None
opened = lines = 0
begin = time.monotonic()
while not ended and time.monotonic() - begin < seconds:
    if reopen:
        reopen = False
        for descriptor in (output, record):
            if descriptor is not None:
                os.close(descriptor)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        record = os.open(os.path.join(truth, f"{opened:05}.bytes"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        opened += 1
    due = int((time.monotonic() - begin) * rate) - lines
    if due <= 0:
        time.sleep(0.001)
        continue
    batch = b"".join(
        b"%s line %d of opening %d %s\n" % (os.path.basename(log).encode(), lines + i, opened, b"x" * choose.randrange(90))
        for i in range(due)
    )
    lines += due
    # Torn anywhere, also in the middle of a line.
    while batch:
        piece = batch[: choose.randrange(1, len(batch) + 1)]
        written = os.write(output, piece)
        os.write(record, piece[:written])
        batch = batch[written:]
print(lines)
