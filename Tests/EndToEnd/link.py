"""A link in front of a node's port, which counts what crosses it, can delay it, and can be cut."""

import contextlib
import queue
import socket
import threading
import time

PIECE = 1 << 16
# Pieces on their way in one direction: 4 MiB, about what TCP has in flight at most by Linux's defaults.
MOST = 64


class Link:
    """Listens on `port`. `delay` in seconds, for each direction; beside it the link is as fast as the loopback, and TCP
    itself sees no delay."""

    def __init__(self, target, delay=0.0):
        self.target, self.delay = target, delay
        self.lock = threading.Lock()
        self.sockets = set()
        self.is_cut = False
        # Bytes, in both directions together; when the first connection came, since the last `mend`.
        self.bytes, self.met = 0, None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        # Closing it alone doesn't wake who accepts.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def cut(self):
        """Ends all connections, and accepts none that lasts."""
        with self.lock:
            self.is_cut = True
            sockets, self.sockets = self.sockets, set()
        for end in sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self):
        with self.lock:
            self.is_cut, self.bytes, self.met = False, 0, None

    def _listen(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = None if self.is_cut else socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                far = None
            if far is None:
                near.close()
                continue
            far.settimeout(None)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                if not self.is_cut:
                    self.sockets |= {near, far}
                    self.met = self.met or time.monotonic()
            if near not in self.sockets:
                near.close()
                far.close()
                continue
            threading.Thread(target=self._connect, args=(near, far), daemon=True).start()

    def _connect(self, near, far):
        ways = [threading.Thread(target=self._carry, args=way, daemon=True) for way in ((near, far), (far, near))]
        for way in ways:
            way.start()
        for way in ways:
            way.join()
        with self.lock:
            self.sockets -= {near, far}
        near.close()
        far.close()

    def _carry(self, source, target):
        pieces = queue.Queue(MOST)
        deliverer = threading.Thread(target=self._deliver, args=(pieces, target), daemon=True)
        if self.delay:
            deliverer.start()
        while True:
            try:
                piece = source.recv(PIECE)
            except OSError:
                piece = b""
            with self.lock:
                self.bytes += len(piece)
            if self.delay:
                pieces.put((time.monotonic() + self.delay, piece))
            else:
                self._pass(piece, target)
            if not piece:
                break
        if self.delay:
            deliverer.join()

    def _deliver(self, pieces, target):
        while True:
            due, piece = pieces.get()
            time.sleep(max(0.0, due - time.monotonic()))
            self._pass(piece, target)
            if not piece:
                return

    def _pass(self, piece, target):
        # Who can't be told any more ends its own side, which is then passed on.
        with contextlib.suppress(OSError):
            target.sendall(piece) if piece else target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def links(fleet, names, round_trip=0.0):
    """In front of each server, for configurations that are written meanwhile. `round_trip` in milliseconds."""
    with contextlib.ExitStack() as stack:
        found = {name: stack.enter_context(Link(fleet.ports[name], round_trip / 2000)) for name in names}
        fleet.fronts = {name: link.port for name, link in found.items()}
        yield found
