"""A DNS server of the test: answers what it is told to, over UDP, and nothing else."""

import socket
import struct
import threading

TYPES = {1: "A", 15: "MX", 16: "TXT", 52: "TLSA"}


def name_of(data, at):
    labels = []
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode("ascii", "replace"))
        at += data[at] + 1
    return ".".join(labels).lower(), at + 1


def packed(name):
    labels = [label.encode() for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def record(kind, value):
    if kind == "A":
        return socket.inet_aton(value)
    if kind == "MX":
        return struct.pack(">H", 10) + packed(value)
    if kind == "TLSA":
        return bytes.fromhex(value)
    text = value.encode()
    return b"".join(bytes([len(part)]) + part for part in (text[i : i + 255] for i in range(0, len(text), 255)))


class Dns:
    """`zone` is {(name, type): [values]}; a value of None is no answer at all; "servfail" an answer that none is to be had.
    Of names that end with one of `signed` it says that it has checked their signatures."""

    def __init__(self, zone, signed=()):
        self.zone, self.signed = zone, tuple(signed)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                data, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            name, at = name_of(data, 12)
            kind = TYPES.get(struct.unpack(">H", data[at : at + 2])[0], "other")
            values = self.zone.get((name, kind), [])
            if values is None:
                continue
            known = any(known == name or known.endswith("." + name) for known, _ in self.zone)
            code = 2 if values == "servfail" else 0 if known else 3
            values = [] if values == "servfail" else values
            flags = 0x8180 | (0x20 if name.endswith(self.signed) and not code else 0)
            head = data[:2] + struct.pack(">HHHHH", flags | code, 1, len(values), 0, 0)
            answer = head + data[12 : at + 4]
            for value in values:
                body = record(kind, value)
                answer += b"\xc0\x0c" + data[at : at + 4] + struct.pack(">IH", 60, len(body)) + body
            self.socket.sendto(answer, peer)

    def close(self):
        self.socket.close()
