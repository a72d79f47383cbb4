"""Proofs, tiles and notes, compared with the straightforward definitions of the standards."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myometrics_audit.signing.merkle import (
    EMPTY_ROOT,
    MerkleTree,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    is_included,
    leaf_node,
)
from myometrics_audit.signing.notes import (
    InvalidNote,
    SigningKey,
    TreeHead,
    VerifierKey,
    add_signatures,
    generate_key,
    split_note,
    verified_by,
)
from myometrics_audit.signing.tiles import (
    Tile,
    TreeEdge,
    bundle_path,
    entry_bundle,
    node_reader,
    split_bundle,
    tile_path,
)

# RFC 6962, section 2.1, as it is written there.


def mth(leaves):
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def split(n):
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def path(m, leaves):
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m, leaves, b):
    if m == len(leaves):
        return [] if b else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], b), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def data(size):
    return [str(number).encode() for number in range(size)]


def tiles_of(leaves):
    """The tiles of a tree by path, and its edge."""
    edge = TreeEdge()
    tiles = {tile.path: tile.content for tile in edge.append(map(leaf_node, leaves))}
    return tiles | {tile.path: tile.content for tile in edge.partial_tiles()}, edge


def reader(leaves):
    return node_reader(len(leaves), tiles_of(leaves)[0].__getitem__)


@settings(max_examples=60)
@given(st.integers(1, 700), st.data())
def test_proofs_are_those_of_the_standard_and_are_accepted(size, draw):
    leaves = data(size)
    at = draw.draw(st.integers(0, size - 1))
    old = draw.draw(st.integers(1, size))
    node_at, root = reader(leaves), mth(leaves)
    proof = inclusion_proof(at, size, node_at)
    assert proof == path(at, leaves)
    assert is_included(leaves[at], at, size, proof, root)
    consistency = consistency_proof(old, size, node_at)
    assert consistency == subproof(old, leaves, True)
    assert is_consistent(old, mth(leaves[:old]), size, root, consistency)


@settings(max_examples=60)
@given(st.integers(2, 300), st.data())
def test_altered_proofs_are_refused(size, draw):
    leaves = data(size)
    root, node_at = mth(leaves), reader(leaves)
    at = draw.draw(st.integers(0, size - 1))
    old = draw.draw(st.integers(1, size - 1))
    proof, consistency = inclusion_proof(at, size, node_at), consistency_proof(old, size, node_at)
    old_root = mth(leaves[:old])
    for altered in alterations(proof, draw):
        assert not is_included(leaves[at], at, size, altered, root)
    for altered in alterations(consistency, draw):
        assert not is_consistent(old, old_root, size, root, altered)
    assert not is_included(b"other", at, size, proof, root)
    assert not is_included(leaves[at], at, size, proof, bytes(32))
    assert not is_included(leaves[at], size, size, proof, root)
    assert not is_included(leaves[at], -1, size, proof, root)
    assert not is_consistent(old, bytes(32), size, root, consistency)
    assert not is_consistent(old, old_root, size, bytes(32), consistency)
    assert not is_consistent(0, EMPTY_ROOT, size, root, consistency)
    assert not is_consistent(size + 1, root, size, root, consistency)


def alterations(proof, draw):
    yield [*proof, bytes(32)]
    yield [bytes(32), *proof]
    if proof:
        place = draw.draw(st.integers(0, len(proof) - 1))
        bit = 1 << draw.draw(st.integers(0, 7))
        node = bytes([proof[place][0] ^ bit]) + proof[place][1:]
        yield [*proof[:place], node, *proof[place + 1 :]]
        yield proof[:place] + proof[place + 1 :]
        if proof[::-1] != proof:
            yield proof[::-1]


def test_consistency_of_every_pair_of_small_trees():
    roots = [mth(data(size)) for size in range(40)]
    for size in range(1, 40):
        node_at = reader(data(size))
        for old in range(1, size + 1):
            proof = consistency_proof(old, size, node_at)
            accepted = {
                (first, second)
                for first in range(40)
                for second in range(first, 40)
                if is_consistent(first, roots[old], second, roots[size], proof)
            }
            assert (old, size) in accepted


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 700, 65_536, 66_000])
def test_tiles_are_those_of_the_standard(size):
    leaves = data(size)
    tiles, edge = tiles_of(leaves)
    assert edge.root() == MerkleTree(leaves).root()
    expected = set()
    for level in range(3):
        count = size >> 8 * level
        full, width = divmod(count, 256)
        expected |= {tile_path(level, index) for index in range(full)}
        expected |= {tile_path(level, full, width)} if width else set()
    assert set(tiles) == expected
    nodes = tiles[tile_path(0, 0, min(size, 256))]
    assert nodes == b"".join(map(leaf_node, leaves[:256]))
    if size >= 256:
        above = tiles[tile_path(1, 0, min(size >> 8, 256))]
        assert above[:32] == MerkleTree(leaves[:256]).root()


@settings(max_examples=30)
@given(st.lists(st.integers(0, 400), max_size=5))
def test_tree_that_grows_in_steps_has_the_same_tiles(steps):
    edge, tiles, size = TreeEdge(), {}, 0
    for step in steps:
        added = data(size + step)[size:]
        tiles |= {tile.path: tile.content for tile in edge.append(map(leaf_node, added))}
        size += step
        assert edge.root() == MerkleTree(data(size)).root()
    tiles |= {tile.path: tile.content for tile in edge.partial_tiles()}
    assert tiles == tiles_of(data(size))[0]


def test_paths_are_those_of_the_standard():
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tile_path(2, 0, 5) == "tile/2/000.p/5"
    assert bundle_path(1000) == "tile/entries/x001/000"
    assert Tile(1, 7, [bytes(32)]).path == "tile/1/007.p/1"


def test_tile_of_the_wrong_length_is_refused():
    tiles, _ = tiles_of(data(300))
    tiles[tile_path(0, 0)] += bytes(32)
    with pytest.raises(ValueError, match="tile/0/000 has 8224 bytes, not 8192"):
        inclusion_proof(1, 300, node_reader(300, tiles.__getitem__))


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_bundle_of_entries_can_be_split(entries):
    bundle = entry_bundle(entries)
    assert split_bundle(bundle) == entries
    if entries and bundle:
        with pytest.raises(ValueError, match="cut off"):
            split_bundle(bundle[:-1])


# Notes

# The example key and signature of Go's package golang.org/x/mod/sumdb/note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngot"
    "pRZb6KE6RyyBwJnAM=\n"
)


def test_note_of_another_implementation_is_accepted():
    key = VerifierKey.parse(GO_KEY)
    assert str(key) == GO_KEY
    assert verified_by(GO_NOTE, [key]) == [key]
    with pytest.raises(InvalidNote, match="is wrong"):
        verified_by(GO_NOTE.replace("answer", "Answer"), [key])


NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)
TEXTS = st.text(st.characters(categories=["L", "N"], include_characters="\n "), min_size=1)


@given(NAMES, TEXTS, st.booleans(), st.integers(0, 2**40))
def test_signed_note_is_verified_and_keys_keep_their_text(name, text, is_witness, time):
    key = generate_key(name, is_witness=is_witness)
    assert SigningKey.parse(key.text) == key
    assert VerifierKey.parse(str(key.verifier)) == key.verifier
    assert key.text not in repr(key)
    text = text.strip("\n") + "\n"
    if text == "\n":
        return
    note = add_signatures(f"{text}\n", [key.sign(text, at=time)])
    assert split_note(note)[0] == text
    other = generate_key(name, is_witness=is_witness)
    assert verified_by(note, [other.verifier, key.verifier]) == [key.verifier]


@settings(max_examples=50)
@given(st.data())
def test_altered_checkpoint_is_refused(draw):
    key = generate_key("clinic.example/log")
    head = TreeHead("clinic.example/log", 7, bytes(range(32)))
    assert TreeHead.parse(head.text) == head
    note = add_signatures(head.text + "\n", [key.sign(head.text)])
    place = draw.draw(st.integers(0, len(note) - 1))
    letter = draw.draw(st.characters(codec="ascii").filter(lambda c: c != note[place]))
    altered = note[:place] + letter + note[place + 1 :]
    with suppress(InvalidNote):
        assert verified_by(altered, [key.verifier]) == []


@pytest.mark.parametrize(
    "text",
    ["", "a+b", "a+00000000+AAAA", GO_KEY.replace("c74f", "c74e"), GO_KEY[:-1], f" +{GO_KEY}"],
)
def test_malformed_keys_are_refused_without_repeating_them(text):
    for kind in (VerifierKey, SigningKey):
        with pytest.raises(InvalidNote) as refused:
            kind.parse(text)
        assert not text or text not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["", "a\n", "a\n1\n", "a\n01\nAAAA\n", "a\n-1\n" + "A" * 44, "\n1\nAAAA\n", "a\n1\n!!\n"],
)
def test_malformed_checkpoints_are_refused(text):
    with pytest.raises(InvalidNote):
        TreeHead.parse(text)
