"""What lies in a vault: files, frames, packs and runs (sections 8 and 13 to 16 of docs/format.md).

Nothing here believes a byte before it was held against a hash that was known from above.
"""

import contextlib
import os
import re
import struct
import zlib

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = 1
BLOCK = 4096
FRAME_BLOCKS = 16
HOLE = 2**32 - 1
# No map says anything of this block, or of later ones.
BLOCKS_MAX = (2**64 - 1) // BLOCK


class Damaged(Exception):
    """An object is missing or is not what was written."""

    def __init__(self, name, detail):
        super().__init__(f"{name}: {detail}")
        self.name = name


class Refused(Exception):
    """What was asked for can't be done: a wrong passphrase, no such point."""


def check(is_true, name, detail):
    if not is_true:
        raise Damaged(name, detail)


@contextlib.contextmanager
def reading(name):
    """Whatever goes wrong while `name` is taken apart is damage of it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, MemoryError, OSError,
            struct.error, RecursionError) as error:
        raise Damaged(name, f"it is not what it should be: {error!r}") from error


def derive(context, key):
    return blake3(key, derive_key_context=context).digest()


def unhex(text, length):
    """The bytes of exactly `length`, written in lower-case digits."""
    if not re.fullmatch(f"[0-9a-f]{{{2 * length}}}", text):
        raise ValueError(f"{text!r} is not {2 * length} digits")
    return bytes.fromhex(text)


class Store:
    """Section 8: the objects, as files."""

    def __init__(self, root):
        self.root = root

    def open(self, name):
        try:
            return open(os.path.join(self.root, *name.split("/")), "rb")
        except FileNotFoundError:
            raise Damaged(name, "it is missing") from None
        except OSError as error:
            raise Damaged(name, f"it can't be read: {error}") from error

    def get(self, name, limit=4 << 20):
        with self.open(name) as file, reading(name):
            data = file.read(limit + 1)
        check(len(data) <= limit, name, f"it is longer than {limit} bytes")
        return data

    def names(self, prefix):
        for directory, below, files in os.walk(os.path.join(self.root, prefix)):
            below[:] = sorted(each for each in below if not each.startswith("."))
            for file in sorted(files):
                if not file.startswith("."):
                    yield os.path.relpath(os.path.join(directory, file), self.root).replace(os.sep, "/")

    def hash(self, name):
        """The hash of an object of any length."""
        hasher = blake3()
        with self.open(name) as file, reading(name):
            while part := file.read(1 << 20):
                hasher.update(part)
        return hasher.hexdigest()


class Frames:
    """Section 14: opens frames under one key."""

    def __init__(self, vault, data_key):
        self.frame_key = None
        if data_key is None:
            self.hash_key = derive("firn vault 1: hash of plain frames", vault)
        else:
            self.hash_key = derive("firn vault 1: hash of encrypted frames", data_key)
            self.frame_key = derive("firn vault 1: key of a frame", data_key)

    def open(self, name, row, stored):
        codec, length, hashed = row["codec"], row["bytes"], row["hash"]
        if self.frame_key is not None:
            aes = AESGCM(blake3(stored[:16], key=self.frame_key).digest())
            try:
                stored = aes.decrypt(bytes(12), stored[16:], bytes([codec]))
            except (InvalidTag, ValueError):
                raise Damaged(name, "a frame can't be decrypted") from None
        if codec == 1:
            try:
                # The size in zstd's own header must not make more room than the row allows.
                check(zstandard.frame_content_size(stored) in (-1, length), name, "a frame of another length")
                stored = zstandard.ZstdDecompressor().decompress(stored, max_output_size=length, allow_extra_data=False)
            except zstandard.ZstdError as error:
                raise Damaged(name, f"a frame can't be decompressed: {error}") from None
        check(len(stored) == length, name, "a frame has another length")
        check(blake3(stored, key=self.hash_key).digest() == hashed, name, "a frame is not what was written")
        return stored


class Container:
    """Section 13: a run or a pack, known by its shape (length, frames, table hash) from above."""

    def __init__(self, vault, name, role, key, shape):
        self.vault, self.store, self.name, self.key = vault, vault.store, name, key
        length, count, table_hash = shape
        with self.store.open(name) as file, reading(name):
            check(os.fstat(file.fileno()).st_size == length, name, f"it has not {length} bytes")
            check(0 <= count <= 2**20, name, "it has too many frames")
            header = file.read(64)
            start = length - 64 - 56 * count
            check(start >= 64, name, "it is too short for its table")
            file.seek(start)
            table, trailer = file.read(56 * count), file.read(64)
        check(blake3(header + table).digest() == table_hash, name, "its table is not the one that was written")
        check(trailer[:36] == table_hash + struct.pack("<I", count) and trailer[36:56] == bytes(20)
              and trailer[56:60] == b"firn" and crc_is_right(trailer), name, "its trailer is wrong")
        check(header[:8] == b"firnvlt1" and crc_is_right(header), name, "its header is wrong")
        version, is_role, zero = struct.unpack("<HB5s", header[8:16])
        if version > VERSION:
            raise Refused(f"{name}: it has format {version}, a newer reader is needed")
        check(version == VERSION and is_role == role and zero == bytes(5) and header[48:60] == bytes(12), name,
              "its header is wrong")
        check(header[16:32] == vault.id and header[32:48].hex() == key, name, "it is of another vault or key")
        self.rows, at = [], 64
        for content, codec, zero, stored, size, first, hashed in struct.iter_unpack("<BB6sIIQ32s", table):
            check(content in (1, 2, 3) and codec in (0, 1) and zero == bytes(6) and 0 < size <= 65536
                  and 0 < stored <= 65568, name, "its table makes no sense")
            self.rows.append({"content": content, "codec": codec, "at": at, "stored": stored, "bytes": size,
                              "first": first, "hash": hashed})
            at += stored
        check(at == start, name, "its frames end elsewhere than its table begins")

    def frame(self, index):
        row = self.rows[index]
        with self.store.open(self.name) as file, reading(self.name):
            file.seek(row["at"])
            stored = file.read(row["stored"])
        return self.vault.frames(self.key).open(self.name, row, stored)


def crc_is_right(data):
    return struct.unpack("<I", data[60:64])[0] == zlib.crc32(data[:60])


class Pack(Container):
    """Section 15: blocks. `reference` is what a run says of it."""

    def __init__(self, vault, key, reference):
        super().__init__(vault, reference["name"], 1, key, reference["shape"])
        self.blocks = reference["blocks"]
        for index, row in enumerate(self.rows):
            blocks = min(FRAME_BLOCKS, self.blocks - FRAME_BLOCKS * index)
            check((row["content"], row["first"], row["bytes"]) == (1, FRAME_BLOCKS * index, blocks * BLOCK),
                  self.name, f"frame {index} is not as its place wants it")


def run_place(run):
    """Name, role and shape of a run that a point names."""
    generation = f".{run['generation']}" if run["generation"] else ""
    return f"runs/{run['id']}{generation}", 2, (run["stored_bytes"], run["frames"], bytes.fromhex(run["table_hash"]))


class Run(Container):
    """Section 16: a part of a map. Its packs are read at once, its extents when asked for."""

    def __init__(self, vault, key, run):
        name, role, shape = run_place(run)
        super().__init__(vault, name, role, key, shape)
        contents = [row["content"] for row in self.rows]
        self.maps = contents.count(2)
        firsts = [row["first"] for row in self.rows[:self.maps]]
        check(contents == [2] * self.maps + [3] * (len(contents) - self.maps) and firsts == sorted(set(firsts)), name,
              "its frames are out of order")
        self.packs = []
        for index in range(self.maps, len(self.rows)):
            row = self.rows[index]
            check(row["first"] == len(self.packs), name, "its list of packs has a gap")
            try:
                with reading(name):
                    self.packs += [self.reference(*pack)
                                   for pack in struct.iter_unpack("<32s32sQIIIIII16s", self.frame(index))]
            except Damaged as damage:
                self.packs += [damage] * (row["bytes"] // 112)

    def reference(self, hashed, table_hash, length, frames, blocks, live, period, generation, zero, padded):
        retention = padded.rstrip(b"\0").decode("ascii")
        check(re.fullmatch("[a-z][a-z0-9-]*", retention) and zero == 0 and live <= blocks, self.name,
              "its list of packs makes no sense")
        check(-(-blocks // FRAME_BLOCKS) == frames, self.name, "a pack's blocks do not fit its frames")
        suffix = f".{generation}" if generation else ""
        return {"name": f"packs/{retention}/{period:05}/{hashed.hex()}{suffix}", "shape": (length, frames, table_hash),
                "blocks": blocks}

    def extents(self):
        """Pieces in block order: first block, end, pack or nothing or damage, position of the first block."""
        ends = [row["first"] for row in self.rows[1:self.maps]] + [BLOCKS_MAX]
        for index, end in zip(range(self.maps), ends):
            try:
                pieces = self.frame_extents(index, end)
            except Damaged as damage:
                # Where the next frame starts, something is known again.
                pieces = [(self.rows[index]["first"], end, damage, 0)]
            yield from pieces

    def frame_extents(self, index, limit):
        after, pieces = self.rows[index]["first"], []
        with reading(self.name):
            rows = list(struct.iter_unpack("<QIII", self.frame(index)))
        check(rows and rows[0][0] == after, self.name, "a frame begins elsewhere")
        for first, blocks, pack, position in rows:
            check(after <= first < first + blocks <= limit, self.name, f"its extents are out of order at block {first}")
            after = first + blocks
            if pack == HOLE:
                check(position == 0, self.name, "a hole has a place")
                pieces.append((first, after, None, 0))
                continue
            check(pack < len(self.packs), self.name, f"block {first} lies in no pack")
            known = self.packs[pack]
            check(isinstance(known, Damaged) or position + blocks <= known["blocks"], self.name,
                  f"block {first} lies beyond its pack")
            pieces.append((first, after, known, position))
        return pieces


def overlay(newer, older):
    """Both maps as one: where both speak of a block, the newer counts."""

    def rest(piece, at):
        first, end, pack, position = piece
        return (at, end, pack, position + at - first if pack else 0) if at < end else next(older, None)

    below = next(older, None)
    for piece in newer:
        first, end = piece[:2]
        while below and below[0] < first:
            yield (below[0], min(below[1], first), *below[2:])
            below = rest(below, first)
        yield piece
        while below and below[0] < end:
            below = rest(below, end)
    if below:
        yield below
        yield from older
