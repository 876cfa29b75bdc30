"""Writes vaults from docs/format.md alone: right ones, and such as only somebody who means harm would write."""

import json
import os
import struct
import zlib

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NO_KEY, HOLE, POOL = "0" * 32, 2**32 - 1, "aa" * 16
MASTER_KEY, DATA_KEY, KEY, SALT = b"m" * 32, b"d" * 32, "0e" * 16, b"s" * 16


def digits(data):
    return blake3(data).hexdigest()


def derive(context, key):
    return blake3(key, derive_key_context=context).digest()


def sealed(data):
    return data + struct.pack("<I", zlib.crc32(data))


def block(number):
    return bytes([number]) * 4096


def numbers_of(content):
    """Which blocks these are; `None` for one that is none of ours."""
    blocks = [content[at:at + 4096] for at in range(0, len(content), 4096)]
    return [each[0] if each == block(each[0]) else None for each in blocks]


def from_passphrase(passphrase):
    return Argon2id(salt=SALT, length=32, iterations=1, lanes=1, memory_cost=64).derive(passphrase)


class HostileVault:
    def __init__(self, root):
        self.root, self.id = root, b"hostile vault 1 "
        self.signing = Ed25519PrivateKey.from_private_bytes(b"f" * 32)
        self.number, self.previous, self.time_ms = 0, "0" * 64, 0
        settings = {"firn": "vault", "format": 1, "vault": self.id.hex(), "created_ms": 1, "hash": "blake3",
                    "compression": "zstd", "cipher": "none", "block_bytes": 4096, "lock": None,
                    "founder": self.signer()}
        data = json.dumps(settings).encode()
        self.put("vault.json", data)
        self.log("init", settings=digits(data))

    def path(self, name):
        return os.path.join(self.root, *name.split("/"))

    def put(self, name, data):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as file:
            file.write(data)

    def flip(self, name, at):
        with open(self.path(name), "r+b") as file:
            data = bytearray(file.read())
            data[at] ^= 1
            file.seek(0)
            file.write(data)

    def signer(self):
        return self.signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def log(self, action, format=1, **members):
        self.number, self.time_ms = self.number + 1, self.time_ms + 1000
        who = {"user": "u", "host": "h", "program": "p"}
        said = json.dumps({"format": format, "vault": self.id.hex(), "number": self.number, "previous": self.previous,
                           "time_ms": self.time_ms, "who": who, "action": action, **members}).encode()
        signature = self.signing.sign(b"firn vault 1: log entry\n" + said).hex()
        data = said + b"\n" + json.dumps({"signer": self.signer(), "signature": signature}).encode() + b"\n"
        self.put(f"log/{self.number:016}", data)
        self.previous = digits(data)

    def key(self, identity, opened_by, wrapping, secret, **members):
        """A slot or data key; gives the hash of its object."""
        bound = b"firn vault 1: wrapped key" + self.id + bytes.fromhex(identity)
        wrapped = bytes(12) + AESGCM(wrapping).encrypt(bytes(12), secret, bound)
        data = json.dumps({"firn": "key", "format": 1, "vault": self.id.hex(), "id": identity, "opened_by": opened_by,
                           **members, "wrapped": wrapped.hex()}).encode()
        self.put(f"keys/{identity}", data)
        return digits(data)

    def passphrase_slot(self, identity, passphrase, memory_kib=64, passes=1):
        wrapped = self.key(identity, "passphrase", from_passphrase(passphrase), MASTER_KEY, memory_kib=memory_kib,
                           passes=passes, salt=SALT.hex())
        self.log("add_slot", id=identity, object=wrapped, name=identity)

    def data_key(self):
        wrapped = self.key(KEY, "master_key", MASTER_KEY, DATA_KEY, pool=POOL, volume=1)
        self.log("add_key", id=KEY, object=wrapped, pool=POOL, volume=1)

    def frame(self, content, codec_of, key):
        codec, body = codec_of(content)
        if key == NO_KEY:
            return codec, body
        salt = blake3(bytes([codec]) + body, key=derive("firn vault 1: salt of a frame", DATA_KEY)).digest()[:16]
        aes = AESGCM(blake3(salt, key=derive("firn vault 1: key of a frame", DATA_KEY)).digest())
        return codec, salt + aes.encrypt(bytes(12), body, bytes([codec]))

    def container(self, role, contents, key, codec_of=lambda content: (1, zstandard.compress(content))):
        """Its bytes and shape. `contents`: kind of content, first, and bytes of each frame."""
        hashed = (derive("firn vault 1: hash of plain frames", self.id) if key == NO_KEY
                  else derive("firn vault 1: hash of encrypted frames", DATA_KEY))
        frames, rows = b"", b""
        for kind, first, content in contents:
            codec, stored = self.frame(content, codec_of, key)
            frames += stored
            rows += struct.pack("<BB6xIIQ32s", kind, codec, len(stored), len(content), first,
                                blake3(content, key=hashed).digest())
        header = sealed(struct.pack("<8sHB5x16s16s12x", b"firnvlt1", 1, role, self.id, bytes.fromhex(key)))
        table_hash = blake3(header + rows).digest()
        data = header + frames + rows + sealed(struct.pack("<32sI20x4s", table_hash, len(contents), b"firn"))
        return data, (len(data), len(contents), table_hash)

    def pack(self, numbers, key=NO_KEY, **how):
        """Of the blocks with these numbers. Gives its hash, shape, and how many there are."""
        content = b"".join(map(block, numbers))
        contents = [(1, at // 4096, content[at:at + 65536]) for at in range(0, len(content), 65536)]
        data, shape = self.container(1, contents, key, **how)
        self.put(f"packs/standard/00729/{digits(data)}", data)
        return blake3(data).digest(), shape, len(numbers)

    def run(self, extents, packs, key=NO_KEY, frame_extents=3276):
        """Extents: first block, blocks, pack, position. Packs: what `pack` gives, or what is not true of it."""
        contents = [(2, part[0][0], b"".join(struct.pack("<QIII", *extent) for extent in part))
                    for part in (extents[at:at + frame_extents] for at in range(0, len(extents), frame_extents))]
        listed = [struct.pack("<32s32sQIIIII4x16s", hashed, shape[2], *shape[:2], blocks, blocks, 729, 0, b"standard")
                  for hashed, shape, blocks in packs]
        contents += [(3, 0, b"".join(listed))] if listed else []
        data, shape = self.container(2, contents, key)
        self.put(f"runs/{digits(data)}", data)
        return {"id": digits(data), "generation": 0, "stored_bytes": shape[0], "frames": shape[1],
                "table_hash": shape[2].hex(), "extents": len(extents)}

    def point(self, runs, blocks, snapshot="a", name="db", pool=POOL, key=NO_KEY, retain_until_ms=None, **other):
        """Writes a point and gives what a commit says of it; `other` replaces members of the point."""
        source = {"pool": pool, "volume": 1, "name": name, "snapshot": snapshot, "created_ms": 5}
        shared = {"bytes": blocks * 4096, "parent": None, "key": key, "retain_until_ms": retain_until_ms, **other}
        point = {"firn": "point", "format": 1, "vault": self.id.hex(), "source": {**source, "layer": 1, "epoch": 1},
                 "time_ms": 9, "runs": runs, "application": {}, "tags": {},
                 "sent": {"changed_bytes": 0, "content_bytes": 0, "stored_bytes": 0}, **shared}
        data = json.dumps(point).encode()
        self.put(f"points/{digits(data)}", data)
        return {"id": digits(data), **source, **shared, "changed_bytes": 0, "stored_bytes": 0, "locked": None}

    def commit(self, *points):
        self.log("commit", points=points, group=None)
        return points[0]["id"]
