"""What the log of a vault says (section 10 of docs/format.md)."""

import re

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vault_objects import VERSION, Damaged, check, parse, parse_unproven, reading, unhex, whole

NO_KEY = "0" * 32


class Catalog:
    """Section 10: what the log says. Void entries change nothing; they are kept in `void`, with the reason."""

    def __init__(self, vault, founder):
        self.vault, self.signers = vault, {founder}
        self.number, self.previous, self.time_ms = 0, "0" * 64, 0
        self.points, self.slots, self.keys, self.void = {}, {}, {}, []
        self.condemned, self.deleted, self.removed = set(), set(), set()
        self.settings = None

    def take(self, name, data):
        """Takes up the next entry, stored as `data`."""
        with reading(name):
            said, seal, rest = data.split(b"\n")
            seal = parse_unproven(name, seal)
            signer = seal["signer"]
            check(signer in self.signers, name, f"it is signed by {signer}, who may not sign")
            try:
                Ed25519PublicKey.from_public_bytes(unhex(signer, 32)).verify(
                    unhex(seal["signature"], 64), b"firn vault 1: log entry\n" + said)
            except InvalidSignature:
                raise Damaged(name, "its signature is wrong") from None
            entry = parse(name, said)
            check(rest == b"" and entry["format"] == VERSION and len(data) <= 4 << 20, name, "it is no entry")
            check(entry["vault"] == self.vault, name, "it is of another vault")
            check(entry["number"] == self.number + 1, name, f"it has number {entry['number']}")
            check(entry["previous"] == self.previous, name, "it does not follow the entry before: one was replaced")
            check(entry["time_ms"] >= self.time_ms, name, "it is dated before the entry before")
            check((entry["action"] == "init") == (self.number == 0), name, "a log begins with its init, once")
            why = self.contradiction(entry)
            if why:
                self.void.append((entry["number"], why))
            if not why or entry["action"] == "delete":
                self.apply(entry)
            self.number, self.time_ms = entry["number"], entry["time_ms"]
            self.previous = blake3(data).hexdigest()

    def is_in_use(self, name):
        kind, _, rest = name.partition("/")
        return kind == "points" and rest in self.points

    def must_stay(self, point, now_ms):
        return bool(point["holds"]) or point["until_ms"] > now_ms

    def contradiction(self, entry):
        """Why the entry is void; nothing when it is not."""
        action, now_ms = entry["action"], entry["time_ms"]
        absent = "there is no such point"
        if action == "commit":
            ids = [point["id"] for point in entry["points"]]
            for point in entry["points"]:
                key = self.keys.get(point["key"])
                is_usable = point["key"] == NO_KEY or (
                    key and not key["destroyed"] and (key["pool"], key["volume"]) == (point["pool"], point["volume"]))
                if point["id"] in self.points or f"points/{point['id']}" in self.deleted or not is_usable:
                    return "a point can't be committed again, nor under this key"
            return None if ids and len(set(ids)) == len(ids) else "it commits nothing, or a point twice"
        if action == "prune":
            for point in (self.points.get(pruned["id"]) for pruned in entry["points"]):
                if point is None or self.must_stay(point, now_ms):
                    return "a point must stay" if point else absent
        if action == "retain":
            for point in map(self.points.get, entry["points"]):
                if point is None or (point["retain_until_ms"] or 0) > entry["until_ms"]:
                    return "a date never moves earlier" if point else absent
        if action in ("hold", "release"):
            point = self.points.get(entry["point"])
            if point is None or (entry["reason"] in point["holds"]) == (action == "hold"):
                return "the hold is there already, or not there" if point else absent
        if action == "condemn":
            names = r"(points/|runs/|packs/[^/]+/[^/]+/)[0-9a-f]{64}(\.[1-9][0-9]*)?"
            if not all(re.fullmatch(names, name) and name not in self.deleted and not self.is_in_use(name)
                       for name in entry["objects"]):
                return "an object is in use, or can't be deleted"
        if action == "acquit" and not self.condemned.issuperset(entry["objects"]):
            return "an object was not condemned"
        if action == "delete":
            if not all(name in self.condemned and not self.is_in_use(name) for name in entry["objects"]):
                return "an object is in use, or was not condemned"
        if action in ("add_slot", "add_key"):
            if entry["id"] == NO_KEY or entry["id"] in self.slots or entry["id"] in self.keys:
                return "the identity is taken"
        if action == "add_key":
            owner = (entry["pool"], entry["volume"])
            if any((key["pool"], key["volume"]) == owner and not key["destroyed"] for key in self.keys.values()):
                return "the volume has a key"
        if action == "remove_slot" and (entry["id"] not in self.slots or len(self.slots) == 1):
            return "there is no such slot, or it is the last one"
        if action == "destroy_key":
            key = self.keys.get(entry["id"])
            if key is None or key["destroyed"]:
                return "there is no such key"
            if any(p["key"] == entry["id"] and self.must_stay(p, now_ms) for p in self.points.values()):
                return "a point must stay readable"
        if action == "add_signer" and entry["signer"] in self.signers:
            return "they may sign already"
        if action == "remove_signer" and (entry["signer"] not in self.signers or len(self.signers) == 1):
            return "they may not sign anyway, or nobody could any more"
        return None

    def apply(self, entry):
        action = entry["action"]
        if action == "init":
            self.settings = entry["settings"]
        elif action == "commit":
            new = {}
            for point in entry["points"]:
                locked_ms = whole(point["locked"]["until_ms"]) if point["locked"] else 0
                until_ms = max(whole(point["retain_until_ms"] or 0), locked_ms)
                for member in ("volume", "created_ms", "bytes", "changed_bytes", "stored_bytes"):
                    whole(point[member])
                unhex(point["id"], 32)
                unhex(point["key"], 16)
                check(isinstance(point["name"], str) and isinstance(point["snapshot"], str),
                      f"log/{entry['number']:016}", "a name is no text")
                new[point["id"]] = {**point, "said": point, "holds": set(), "until_ms": until_ms,
                                    "group": entry["group"], "number": entry["number"]}
            self.points.update(new)
        elif action == "prune":
            for pruned in entry["points"]:
                self.points.pop(pruned["id"], None)
        elif action == "retain":
            whole(entry["until_ms"])
            for point in map(self.points.get, entry["points"]):
                point["retain_until_ms"] = entry["until_ms"]
                point["until_ms"] = max(point["until_ms"], entry["until_ms"])
        elif action == "hold":
            self.points[entry["point"]]["holds"].add(entry["reason"])
        elif action == "release":
            self.points[entry["point"]]["holds"].discard(entry["reason"])
        elif action == "condemn":
            self.condemned.update(set(entry["objects"]))
        elif action == "acquit":
            self.condemned.difference_update(set(entry["objects"]))
        elif action == "delete":
            self.condemned.difference_update(set(entry["objects"]))
            self.deleted.update(set(entry["objects"]))
        elif action == "add_slot":
            self.slots[entry["id"]] = entry
        elif action == "add_key":
            self.keys[entry["id"]] = {**entry, "destroyed": False}
        elif action == "remove_slot":
            del self.slots[entry["id"]]
            self.removed.add(entry["id"])
        elif action == "destroy_key":
            self.keys[entry["id"]]["destroyed"] = True
        elif action == "add_signer":
            self.signers.add(entry["signer"])
        elif action == "remove_signer":
            self.signers.discard(entry["signer"])
        else:
            raise ValueError(f"no entry has action {action!r}")
