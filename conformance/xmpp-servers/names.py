"""Where servers are, told by a name server of the walk's own: SRV and A records for the few names of the walk, and nothing else."""

import socket
import struct
import threading

A, SRV = 1, 33
NO_ERROR, NO_SUCH_NAME = 0, 3


class Names:
    """Answers over UDP and TCP until the process ends."""

    def __init__(self, address):
        self.address = address
        # (name, type) -> data of the answers
        self.records = {}
        self.lock = threading.Lock()

    def host(self, name, address):
        with self.lock:
            self.records[(name, A)] = [socket.inet_aton(address)]

    def service(self, service, name, target, port, priority=10):
        data = struct.pack("!HHH", priority, 0, port) + written(target)
        with self.lock:
            self.records.setdefault((f"{service}.{name}", SRV), []).append(data)

    def start(self):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((self.address, 53))
        tcp = socket.create_server((self.address, 53))
        for serve in (lambda: self.serve_udp(udp), lambda: self.serve_tcp(tcp)):
            threading.Thread(target=serve, daemon=True).start()

    def serve_udp(self, udp):
        while True:
            question, peer = udp.recvfrom(4096)
            answer = self.answer(question)
            if answer:
                udp.sendto(answer, peer)

    def serve_tcp(self, tcp):
        while True:
            connection, _ = tcp.accept()
            with connection:
                connection.settimeout(5)
                try:
                    (length,) = struct.unpack("!H", connection.recv(2))
                    answer = self.answer(connection.recv(length))
                    connection.sendall(struct.pack("!H", len(answer)) + answer)
                except (OSError, struct.error):
                    continue

    def answer(self, question):
        try:
            number, flags, count = struct.unpack("!HHH", question[:6])
            name, at = read(question, 12)
            (kind,) = struct.unpack("!H", question[at : at + 2])
        except (struct.error, IndexError):
            return None
        if count != 1:
            return None
        asked = question[12 : at + 4]
        with self.lock:
            found = self.records.get((name, kind), [])
            is_known = any(known == name for known, _ in self.records)
        code = NO_ERROR if found or is_known else NO_SUCH_NAME
        head = struct.pack("!HHHHHH", number, 0x8580 | (flags & 0x0100) | code, 1, len(found), 0, 0)
        rows = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data for data in found)
        return head + asked + rows


def written(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def read(message, at):
    """The name at a place, and the place behind it. Questions have no pointers."""
    labels = []
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += 1 + length
    return ".".join(labels), at + 1
