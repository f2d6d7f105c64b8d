"""A second implementation of the host's side of the protocol, written from design/formats.md and design/protocol.md, for
tests that need a host which lies. Needs python3-cryptography.
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
        "goodbye extend journalQuery journalAnswer extendJournal".split(),
        start=1,
    )
}
NAMES = {number: name for name, number in TYPES.items()}


def counted(data):
    return struct.pack(">I", len(data)) + data


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


class Peer:
    """One connection. `host` is the name that it claims, `certificate` whose certificate it shows."""

    def __init__(self, fleet, server, host, certificate=None, journal=None, key=None, records=None):
        certificate = certificate or host
        self.host = host.encode()
        self.journal = journal or os.urandom(16)
        self.key = key or Ed25519PrivateKey.generate()
        self.public = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.records = records if records is not None else []
        self.certificate = f"{fleet.keys}/{certificate}.crt"
        self.certificate_key = f"{fleet.keys}/{certificate}.key"
        self.connect(fleet, server)

    def connect(self, fleet, server):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(f"{fleet.keys}/ca.crt")
        context.load_cert_chain(self.certificate, self.certificate_key)
        raw = socket.create_connection(("127.0.0.1", fleet.ports[server]), timeout=10)
        self.socket = context.wrap_socket(raw, server_hostname=server)
        self.buffer = b""
        # Payload bytes that the server lets this connection send in all, and those that it sent.
        self.credit = self.spent = 0

    def close(self):
        self.socket.close()

    # Frames

    def send_raw(self, data):
        try:
            self.socket.sendall(data)
        except (OSError, ssl.SSLError) as error:
            raise Closed(str(error)) from error

    def send(self, name, body):
        self.send_raw(struct.pack(">IB", len(body), TYPES[name]) + body)

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
                if not piece:
                    raise Closed("end of stream")
                self.buffer += piece
            size, number = struct.unpack(">IB", self.buffer[:5])
            body, self.buffer = self.buffer[5 : 5 + size], self.buffer[5 + size :]
            if NAMES[number] == "ping":
                self.send("pong", body)
                continue
            if NAMES[number] == "welcome":
                self.credit, self.spent = self.credit_of(body), 0
            elif NAMES[number] == "credit":
                self.credit = struct.unpack(">Q", body)[0]
            return NAMES[number], body

    @staticmethod
    def heads(welcome):
        """The checkpoints that it shows, as (length, root), and where they end."""
        at = 2 + 4 + struct.unpack(">I", welcome[2:6])[0] + 8
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

    def expect(self, *names, limit=10):
        """Skips frames until one of `names` comes."""
        while True:
            name, body = self.read(limit)
            if name in names:
                return name, body

    def hello(self):
        self.send(
            "hello", struct.pack(">HH", 1, 1) + counted(self.host) + self.journal + self.public + struct.pack(">I", 0)
        )
        return self.expect("welcome", "goodbye", "refusal")

    # Records

    def binding_signature(self):
        signed = b"nimbus binding 1\x00" + counted(self.host) + self.journal + self.public
        with open(self.certificate_key, "rb") as file:
            key = serialization.load_pem_private_key(file.read(), None)
        return key.sign(signed, ec.ECDSA(hashes.SHA256()))

    def record(self, kind, body):
        return struct.pack(">BHq", 1, kind, time.time_ns()) + body

    def opened(self):
        with open(self.certificate, "rb") as file:
            ends = b"-----END CERTIFICATE-----\n"
            blocks = [block + ends for block in file.read().split(ends) if block.strip()]
        chain = [x509.load_pem_x509_certificate(block).public_bytes(serialization.Encoding.DER) for block in blocks]
        body = counted(self.host) + self.journal + self.public
        body += b"\x01" + struct.pack(">I", len(chain)) + b"".join(map(counted, chain))
        body += counted(self.binding_signature()) + struct.pack(">II", 0, 0) + b"\x00"
        return self.record(1, body)

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
        """Over the first records of its journal."""
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
