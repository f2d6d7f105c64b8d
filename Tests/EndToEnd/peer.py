"""A second implementation of the host's side of the protocol, and of a server's towards its peers, written from
design/formats.md and design/protocol.md, for tests that need a host or a server which lies. Needs python3-cryptography.
"""

import hashlib
import os
import socket
import ssl
import struct
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography import x509

LEAF = 65_536
TYPES = {
    name: number
    for number, name in enumerate(
        "hello welcome records recordsDurable resumeQuery resumeAnswer payload payloadDurable credit refusal ping pong "
        "goodbye extend journalQuery journalAnswer extendJournal peerHello feed announce noted openChannel channel "
        "closeChannel wantRecords wantBytes askTrie trieParts trieBucket holdings "
        "position".split(),
        start=1,
    )
}
NAMES = {number: name for name, number in TYPES.items()}


def counted(data):
    return struct.pack(">I", len(data)) + data


def frame(name, body):
    return struct.pack(">IB", len(body), TYPES[name]) + body


def sha(data):
    return hashlib.sha256(data).digest()


def tree_root(leaves):
    """RFC 6962, section 2.1, over leaf hashes."""
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha(b"\x01" + tree_root(leaves[:split]) + tree_root(leaves[split:]))


def file_root(data):
    return tree_root([sha(b"\x00" + data[at : at + LEAF]) for at in range(0, len(data), LEAF)])


class Closed(Exception):
    pass


class Connection:
    """One connection to a server. `certificate`: whose it shows."""

    def __init__(self, fleet, server, certificate):
        self.certificate = f"{fleet.keys}/{certificate}.crt"
        self.certificate_key = f"{fleet.keys}/{certificate}.key"
        self.connect(fleet, server)

    def connect(self, fleet, server):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(f"{fleet.keys}/ca.crt")
        context.load_cert_chain(self.certificate, self.certificate_key)
        raw = socket.create_connection(("127.0.0.1", fleet.ports[server]), timeout=10)
        try:
            self.socket = context.wrap_socket(raw, server_hostname=server)
        except OSError:
            raw.close()
            raise
        self.buffer = b""

    def close(self):
        self.socket.close()

    def send_raw(self, data):
        try:
            self.socket.sendall(data)
        except (OSError, ssl.SSLError) as error:
            raise Closed(str(error)) from error

    def send(self, name, body):
        self.send_raw(frame(name, body))

    def read(self, limit=10):
        """The next frame as (name, body); answers pings on the way. Raises Closed when the server hangs up."""
        deadline = time.monotonic() + limit
        while True:
            while len(self.buffer) < 5 or len(self.buffer) < 5 + struct.unpack(">I", self.buffer[:4])[0]:
                self.socket.settimeout(max(0.01, deadline - time.monotonic()))
                try:
                    piece = self.socket.recv(65_536)
                except (TimeoutError, socket.timeout):
                    raise TimeoutError("no frame in time")
                except (OSError, ssl.SSLError) as error:
                    raise Closed(str(error)) from error
                finally:
                    self.socket.settimeout(10)
                if not piece:
                    raise Closed("end of stream")
                self.buffer += piece
            size, number = struct.unpack(">IB", self.buffer[:5])
            body, self.buffer = self.buffer[5 : 5 + size], self.buffer[5 + size :]
            if NAMES[number] == "ping":
                self.send("pong", body)
                continue
            self.note(NAMES[number], body)
            return NAMES[number], body

    def note(self, name, body):
        """What is remembered of each frame that comes."""

    def expect(self, *names, limit=10):
        """Skips frames until one of `names` comes."""
        while True:
            name, body = self.read(limit)
            if name in names:
                return name, body

    def drain(self):
        """Takes what came, and forgets it."""
        self.socket.settimeout(0)
        try:
            while self.socket.recv(1 << 20):
                pass
            raise Closed("end of stream")
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except (OSError, ssl.SSLError) as error:
            raise Closed(str(error)) from error
        finally:
            self.socket.settimeout(10)


class Peer(Connection):
    """One connection of a host. `host` is the name that it claims, `certificate` whose certificate it shows."""

    def __init__(self, fleet, server, host, certificate=None, journal=None, key=None, records=None):
        self.host = host.encode()
        self.journal = journal or os.urandom(16)
        self.key = key or Ed25519PrivateKey.generate()
        self.public = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.records = records if records is not None else []
        # Payload bytes that the server lets this connection send in all, and those that it sent.
        self.credit = self.spent = 0
        super().__init__(fleet, server, certificate or host)

    def note(self, name, body):
        if name == "welcome":
            self.credit, self.spent = self.credit_of(body), 0
        elif name == "credit":
            self.credit = struct.unpack(">Q", body)[0]

    @staticmethod
    def heads(welcome):
        """The checkpoints that it shows, as (length, root), and where they end."""
        # Version, counted name, optional position, is it continued.
        at = 2 + 4 + struct.unpack(">I", welcome[2:6])[0]
        at += 1 + 24 * welcome[at] + 1
        (count,) = struct.unpack(">I", welcome[at : at + 4])
        at += 4
        heads = []
        for _ in range(count):
            # Version, counted host, journal, length, root, signature.
            at += 1 + 4 + struct.unpack(">I", welcome[at + 1 : at + 5])[0] + 16
            heads.append((struct.unpack(">Q", welcome[at : at + 8])[0], welcome[at + 8 : at + 40]))
            at += 8 + 32 + 64
        return heads, at

    @classmethod
    def credit_of(cls, welcome):
        _, at = cls.heads(welcome)
        return struct.unpack(">Q", welcome[at : at + 8])[0]

    def hello_frame(self):
        named = counted(self.host) + self.journal + self.public
        return frame("hello", struct.pack(">HH", 1, 1) + named + struct.pack(">BI", 0, 0))

    def hello(self):
        self.send_raw(self.hello_frame())
        return self.expect("welcome", "goodbye", "refusal")

    # Records

    def bound(self):
        return b"nimbus binding 1\x00" + counted(self.host) + self.journal + self.public

    def binding_signature(self):
        with open(self.certificate_key, "rb") as file:
            key = serialization.load_pem_private_key(file.read(), None)
        return key.sign(self.bound(), ec.ECDSA(hashes.SHA256()))

    def record(self, kind, body):
        return struct.pack(">BHq", 1, kind, time.time_ns()) + body

    def opened(self, binding=None):
        """The first record of its journal. `binding`: another one than that by its certificate."""
        body = counted(self.host) + self.journal + self.public + (binding or self.binding())
        return self.record(1, body + struct.pack(">II", 0, 0) + b"\x00")

    def binding(self):
        with open(self.certificate, "rb") as file:
            ends = b"-----END CERTIFICATE-----\n"
            blocks = [block + ends for block in file.read().split(ends) if block.strip()]
        chain = [x509.load_pem_x509_certificate(block).public_bytes(serialization.Encoding.DER) for block in blocks]
        return b"\x01" + struct.pack(">I", len(chain)) + b"".join(map(counted, chain)) + counted(self.binding_signature())

    def binding_by_its_own_key(self):
        return b"\x02" + self.key.sign(self.bound())

    def born(self, file, path, identity=None):
        identity = identity or (b"\x03" + struct.pack(">QQq", 7, 7, time.time_ns()))
        body = file + identity + b"\x00" + counted(path) + counted(path)
        body += struct.pack(">III", 0o100644, 0, 0) + struct.pack(">qq", time.time_ns(), time.time_ns()) + b"\x00"
        return self.record(2, body)

    def appended(self, file, offset, data, whole):
        return self.record(3, file + struct.pack(">QQ", offset, len(data)) + file_root(whole))

    def checkpoint(self, length, root):
        named = counted(self.host) + self.journal + struct.pack(">Q", length) + root
        return b"\x01" + named + self.key.sign(b"nimbus checkpoint 1\x00" + named)

    def send_records(self, records, checkpoint=None):
        first = len(self.records)
        self.records += records
        root = tree_root([sha(b"\x00" + record) for record in self.records])
        body = struct.pack(">QI", first, len(records)) + b"".join(map(counted, records))
        self.send("records", body + (checkpoint or self.checkpoint(len(self.records), root)))

    def root(self, length):
        """Over the first records of its journal; None: over all."""
        return tree_root([sha(b"\x00" + record) for record in self.records[:length]])

    def go_on(self):
        """As a host does it whose journal may be another than those held: says from where its records go on, and sends
        them again from there. False when the server refuses or hangs up."""
        name, welcome = self.hello()
        if name != "welcome":
            return False
        heads, _ = self.heads(welcome)
        own = [head for head in heads if head[0] <= len(self.records) and head[1] == self.root(head[0])]
        if heads and not own:
            self.send("journalQuery", struct.pack(">Q", len(self.records)))
            _, answer = self.expect("journalAnswer")
            heads = [answer[at : at + 40] for at in range(4, len(answer), 40)]
            heads = [(struct.unpack(">Q", head[:8])[0], head[8:]) for head in heads]
            own = [head for head in heads if head[1] == self.root(head[0])]
            length, root = max(own, default=(0, bytes(32)))
            self.send("extendJournal", struct.pack(">Q", length) + root)
        else:
            length, root = max(own, default=(0, bytes(32)))
            if len(heads) > 1:
                self.send("extendJournal", struct.pack(">Q", length) + root)
        rest, self.records = self.records[length:], self.records[:length]
        if rest:
            self.send_records(rest)
        return not rest or self.records_durable()

    def records_durable(self, limit=10):
        """Waits until the server durably holds all records; False when it refuses or hangs up."""
        try:
            while True:
                name, body = self.expect("recordsDurable", "refusal", "goodbye", limit=limit)
                if name != "recordsDurable":
                    return False
                # The host's own checkpoint: the length stands before root and signature.
                if struct.unpack(">Q", body[-104:-96])[0] >= len(self.records):
                    return True
        except Closed:
            return False

    # Payload

    def strings(self, file):
        """What the server says that it holds: (length, root) of each string."""
        self.send("resumeQuery", struct.pack(">I", 1) + file)
        _, body = self.expect("resumeAnswer")
        count = struct.unpack(">I", body[20:24])[0]
        held = [body[24 + 40 * at : 64 + 40 * at] for at in range(count)]
        return [(struct.unpack(">Q", string[:8])[0], string[8:]) for string in held]

    def resume(self, file):
        strings = self.strings(file)
        return strings[0][0] if strings else 0

    def extend(self, file, length=0, root=bytes(32)):
        """Goes on with the string that has this root there; of length 0 with one of its own."""
        self.send("extend", file + struct.pack(">Q", length) + root)

    def send_payload(self, file, offset, data):
        self.spent += len(data)
        self.send("payload", file + struct.pack(">Q", offset) + data)

    def payload_durable(self, file, length, limit=10):
        """Waits until the server durably holds `length` bytes of the file; the refusal's code when it refuses."""
        while True:
            name, body = self.expect("payloadDurable", "refusal", "goodbye", limit=limit)
            if name == "refusal":
                return struct.unpack(">H", body[17:19] if body[0] else body[1:3])[0]
            if name == "goodbye":
                return struct.unpack(">H", body[:2])[0]
            for at in range(4, len(body), 56):
                if body[at : at + 16] == file and struct.unpack(">Q", body[at + 16 : at + 24])[0] >= length:
                    return 0

    def deliver(self, path, data):
        """A whole honest delivery of one file; returns its uuid."""
        file = os.urandom(16)
        if not self.records:
            self.send_records([self.opened()])
        self.send_records([self.born(file, path), self.appended(file, 0, data, data)])
        assert self.records_durable()
        self.resume(file)
        self.send_range(file, data, 0)
        assert self.payload_durable(file, len(data)) == 0
        return file

    def send_range(self, file, data, at):
        while at < len(data):
            while self.credit <= self.spent:
                self.expect("credit")
            count = min(200_000, self.credit - self.spent, len(data) - at)
            self.send_payload(file, at, data[at : at + count])
            at += count

    def deliver_beside(self, file, data):
        """As a host does it whose bytes may be others than those held."""
        own = [(length, root) for length, root in self.strings(file) if root == file_root(data[:length])]
        length, root = max(own, default=(0, bytes(32)))
        self.extend(file, length, root)
        self.send_range(file, data, length)
        return length == len(data) or self.payload_durable(file, len(data), limit=30) == 0


class Script(Peer):
    """What a host would say on one connection, as bytes; and its journal, for whoever supplies it in its place."""

    def __init__(self, fleet, host, certificate=None):
        self.bytes = bytearray()
        super().__init__(fleet, None, host, certificate)

    def connect(self, fleet, server):
        pass

    def send_raw(self, data):
        self.bytes += data

    def greet(self):
        self.send_raw(self.hello_frame())
        return self

    def take(self):
        taken, self.bytes = bytes(self.bytes), bytearray()
        return taken

    def journal_change(self, number):
        """As a server announces its journal."""
        return journal_change(number, self.host, self.journal, self.public, [(len(self.records), self.root(None))])

    def records_from(self, first):
        """All records behind the first ones as one frame."""
        records, self.records = self.records[first:], self.records[:first]
        self.send_records(records)
        return self.take()


def heads_list(heads):
    return struct.pack(">I", len(heads)) + b"".join(struct.pack(">Q", length) + root for length, root in heads)


def journal_change(number, host, journal, public, heads):
    return struct.pack(">QB", number, 1) + counted(host) + journal + b"\x01" + public + heads_list(heads)


def file_change(number, host, file, heads):
    return struct.pack(">QB", number, 2) + counted(host) + file + b"\x00" + heads_list(heads)


def wanted_bytes(channel, file, length, root, held=()):
    return struct.pack(">I", channel) + file + struct.pack(">Q", length) + root + heads_list(held)


def cursor(life, held, seen):
    return b"\x01" + life + struct.pack(">QQ", held, seen)


def on_channel(channel, frames):
    """Frames of a channel: each behind a frame that names it."""
    named, at = bytearray(), 0
    while at < len(frames):
        end = at + 5 + struct.unpack(">I", frames[at : at + 4])[0]
        named += frame("channel", struct.pack(">I", channel)) + frames[at:end]
        at = end
    return bytes(named)


# The digest of a part of the trie with nothing in it.
EMPTY_BUCKET = hashlib.sha256(b"\x00\x02").digest()


class ServerPeer(Connection):
    """One connection of a server to another one. `name`: who it says that it is; `certificate`: whose it shows."""

    def __init__(self, fleet, server, name, certificate=None):
        self.name = name.encode()
        self.life = os.urandom(16)
        # Channels that the other side opened: (host, journal).
        self.channels = {}
        # What it announced: its last number, and of each (kind, host, uuid) the key and the heads.
        self.last, self.announced = 0, {}
        # Parts of its trie about which it was asked.
        self.asked = []
        # Up to where it noted and holds what this side announced.
        self.noted = self.held = 0
        super().__init__(fleet, server, certificate or name)

    def note(self, name, body):
        if name == "openChannel":
            number, size = struct.unpack(">II", body[:8])
            self.channels[number] = body[8 : 8 + size], body[8 + size : 24 + size]
        elif name == "noted":
            self.noted, self.held = struct.unpack(">QQ", body)
        elif name == "announce":
            (self.last,) = struct.unpack(">Q", body[16:24])
            self._note_changes(body[24:])
        elif name == "feed" and body[8]:
            self._ask_trie(0, 0)
        elif name == "trieParts":
            depth, bits = self.asked.pop(0)
            for index in range(16):
                if body[32 * index : 32 * index + 32] != EMPTY_BUCKET:
                    self._ask_trie(depth + 1, bits | index << (124 - 4 * depth))
        elif name == "trieBucket":
            if body[0]:
                self.asked.pop(0)
            self._note_changes(body[1:])

    def _ask_trie(self, depth, bits):
        """What was held before the feed begins is found from the root of the trie down."""
        self.asked.append((depth, bits))
        self.send("askTrie", struct.pack(">B", depth) + bits.to_bytes(16, "big"))

    def _note_changes(self, body):
        (count,) = struct.unpack(">I", body[:4])
        at = 4
        for _ in range(count):
            kind, size = struct.unpack(">BI", body[at + 8 : at + 13])
            host, at = body[at + 13 : at + 13 + size], at + 13 + size
            uuid, public, at = body[at : at + 16], None, at + 17
            if body[at - 1]:
                public, at = body[at : at + 32], at + 32
            (length,) = struct.unpack(">I", body[at : at + 4])
            heads = [body[at + 4 + 40 * index :][:40] for index in range(length)]
            at += 4 + 40 * length
            heads = [(struct.unpack(">Q", head[:8])[0], head[8:]) for head in heads]
            self.announced[kind, host, uuid] = public, heads

    def hello_frame(self, known=b"\x00"):
        return frame("peerHello", struct.pack(">HH", 1, 1) + counted(self.name) + known + struct.pack(">I", 0))

    def greet(self, known=b"\x00", after=0, by_trie=False):
        """`known`: the cursor in the other's feed; `after`: where its own begins; `by_trie`: what comes before that the
        other is to find by the trie."""
        self.send_raw(self.hello_frame(known))
        self.expect("feed")
        self.send("feed", struct.pack(">QB", after, by_trie))
        return self

    def announce_frame(self, changes, last):
        return frame("announce", self.life + struct.pack(">QI", last, len(changes)) + b"".join(changes))

    def announce(self, changes, last):
        self.send_raw(self.announce_frame(changes, last))

    def on(self, channel, frames):
        self.send_raw(on_channel(channel, frames))

    def next(self, limit=10):
        """As `read`, with the channel in front, None where there is none."""
        name, body = self.read(limit)
        if name != "channel":
            return None, name, body
        return (struct.unpack(">I", body)[0], *self.read(limit))

    def open_channel(self, number, host, journal, public, credit=1 << 40):
        """To be supplied: nothing is held, and so much payload may come."""
        self.send("openChannel", struct.pack(">I", number) + counted(host) + journal + public)
        welcome = struct.pack(">H", 1) + counted(self.name) + struct.pack(">BBIQI", 0, 0, 0, credit, 0)
        self.on(number, frame("welcome", welcome))

    def want_records(self, channel, length, root):
        self.send("wantRecords", struct.pack(">IQ", channel, length) + root)

    def want_bytes(self, channel, file, length, root, held=()):
        self.send("wantBytes", wanted_bytes(channel, file, length, root, held))

    def serve(self, records, payload, until):
        """Supplies what is asked for, as long as `until()` is false. `records`: {journal: frames}; `payload`:
        {file: frames}. Returns how often each was asked for."""
        asked = {}
        while not until():
            try:
                _, name, body = self.next(0.05)
            except TimeoutError:
                continue
            if name not in ("wantRecords", "wantBytes"):
                continue
            (channel,) = struct.unpack(">I", body[:4])
            uuid = self.channels[channel][1] if name == "wantRecords" else body[4:20]
            asked[uuid] = asked.get(uuid, 0) + 1
            self.on(channel, (records if name == "wantRecords" else payload).get(uuid, b""))
        return asked
