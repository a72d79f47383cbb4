"""The ranges of new partitions, and the command without PostgreSQL."""

from __future__ import annotations

from itertools import pairwise

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from myometrics_audit.partitions.ahead import missing_ranges


@st.composite
def disjoint_ranges(draw):
    edges = sorted(draw(st.sets(st.integers(1, 500), max_size=12)))
    pairs = list(pairwise(edges))
    return [pair for pair in pairs if draw(st.booleans())]


@given(
    following=st.integers(1, 600),
    taken=disjoint_ranges(),
    size=st.integers(1, 90),
    ahead=st.integers(1, 5),
)
def test_new_ranges_cover_the_next_id_and_those_ahead(following, taken, size, ahead):
    new = missing_ranges(following, taken, size=size, ahead=ahead)
    every = sorted([*taken, *new])
    assert all(first < end for first, end in every)
    assert all(end <= first for (_, end), (first, _) in pairwise(every))
    position, complete = following, 0
    for first, end in every:
        if first <= position < end:
            position, complete = end, complete + 1
    assert complete >= ahead + 1
    assert all(end - first <= size for first, end in new)
    assert missing_ranges(following, every, size=size, ahead=ahead) == []


def test_command_on_another_database_says_that_it_needs_postgresql(db, database_vendor):
    if database_vendor == "sqlite":
        with pytest.raises(CommandError, match="Only PostgreSQL has partitions"):
            call_command("audit_partition")
