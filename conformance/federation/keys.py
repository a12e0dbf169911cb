"""Keys of devices, as clients make them: signed by the keys they are about."""

import base64
import json

from nacl.signing import SigningKey

from people import V3


def text(data):
    return base64.b64encode(data).decode().rstrip("=")


def signed(thing, person, key_id, key):
    """The object with a signature of the person under it."""
    canonical = json.dumps(thing, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return {**thing, "signatures": {person.id: {key_id: text(key.sign(canonical).signature)}}}


class Device:
    """A device of somebody, with keys."""

    def __init__(self, person, token=None):
        self.person, self.token = person, token or person.token
        self.id = self.ask("GET", f"{V3}/account/whoami")["device_id"]
        self.key = SigningKey.generate()

    @classmethod
    def log_in(cls, person, password):
        identifier = {"type": "m.id.user", "user": person.local}
        body = {"type": "m.login.password", "identifier": identifier, "password": password}
        return cls(person, person.post(f"{V3}/login", body)["access_token"])

    def ask(self, method, path, body=None):
        answer = self.person.ask(method, path, body, {"Authorization": f"Bearer {self.token}"})
        return self.person.fine(answer, f"{method} {path}")

    @property
    def public(self):
        return text(bytes(self.key.verify_key))

    def upload(self, one_time=0):
        """Publishes the keys of the device, and one-time keys."""
        key_id = f"ed25519:{self.id}"
        keys = {"user_id": self.person.id, "device_id": self.id, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
                "keys": {key_id: self.public, f"curve25519:{self.id}": text(bytes(32))}}
        named = {f"signed_curve25519:{number}": signed({"key": f"{number:043}"}, self.person, key_id, self.key)
                 for number in range(one_time)}
        body = {"device_keys": signed(keys, self.person, key_id, self.key), "one_time_keys": named}
        self.ask("POST", f"{V3}/keys/upload", body)
        return self


def cross_signing_keys(person):
    """A master key and a self-signing key that it signed."""
    master, own = SigningKey.generate(), SigningKey.generate()
    def key(usage, secret):
        public = text(bytes(secret.verify_key))
        return {"user_id": person.id, "usage": [usage], "keys": {f"ed25519:{public}": public}}
    master_id = f"ed25519:{text(bytes(master.verify_key))}"
    return {"master_key": key("master", master),
            "self_signing_key": signed(key("self_signing", own), person, master_id, master)}
