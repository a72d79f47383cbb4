"""An exported folder is verified by third-party programs and by ours."""

from __future__ import annotations

import json
import random
import shutil
import uuid
from io import StringIO

import pytest
from checkpoint_site import KEY, configure_checkpoints
from django.core.management import CommandError, call_command

from myometrics_audit.checkpoints.export_folder import folder_problems
from myometrics_audit.checkpoints.known_heads import stored_heads
from myometrics_audit.checkpoints.publication import checkpoint_publish
from myometrics_audit.log.guards import remove_guards
from myometrics_audit.models import AuditLog, Erasure, Leaf
from myometrics_audit.sealing import LogVerifier, seal_pending
from myometrics_audit.signing.notes import TreeHead, add_signatures, generate_key, split_note
from myometrics_audit.signing.signatures import entry_leaf_v2

pytestmark = pytest.mark.django_db

MUTATIONS = 1000
FREE = {"exported_at", "signature", "key_id", "pseudonym", "erasure"}
"""Values of lines that outsiders can't verify."""


@pytest.fixture
def verify(go_program, tmp_path):
    """The Go program: its output for some folders, by folder."""
    keys = tmp_path / "public-keys"
    keys.write_text(f"{KEY.verifier}\n")

    def run(*folders):
        done = go_program(keys, *folders)
        answers = dict(line.split(": ", 1) for line in done.stdout.splitlines())
        assert set(answers) == set(map(str, folders)), done.stderr
        assert done.returncode == any(answer.startswith("REFUSED") for answer in answers.values())
        return answers

    return run


def export(folder, *options):
    output = StringIO()
    call_command("audit_export", "--folder", str(folder), *options, stdout=output)
    return output.getvalue()


def check(folder, *, is_complete=True):
    """The problems that ``audit_export --check`` finds; without any it says what is complete."""
    output = StringIO()
    try:
        call_command("audit_export", "--check", str(folder), stdout=output)
    except SystemExit:
        return output.getvalue().splitlines()[:-1]
    except CommandError as error:
        return [str(error)]
    complete, partial = "Complete up to its checkpoint.", "NOT complete: entries can be left out."
    assert output.getvalue() == f"No problems. {complete if is_complete else partial}\n"
    return []


@pytest.fixture
def log(settings, tmp_path, write, django_user_model):
    """A small log with everything: users, deleted and retained ones, purged entries, seals."""
    configure_checkpoints(settings, tmp_path / "tiles")
    erased, kept = (
        django_user_model.objects.create_user(email=f"{name}@clinic.example") for name in "ab"
    )
    for number in range(3):
        write(details={"n": number * 1.5, "t": "ü"}, ip_address="2001:db8::a")
        write(user=None, resource_id="anonymous", data_subject="patient-7", purpose="TREAT")
        write(user=erased)
        write(user=kept, legal_basis="consent")
        list(seal_pending())
        checkpoint_publish()
    erased.delete()
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    kept.delete()
    write(resource_id="last")
    list(seal_pending())
    checkpoint_publish()
    write(resource_id="not sealed")


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.program("go")
def test_folder_is_accepted_by_go_and_by_our_check(log, tmp_path, verify):
    assert export(tmp_path / "all") == f"Wrote 20 lines to {tmp_path}/all/log.jsonl.\n"
    assert check(tmp_path / "all") == []
    answer = verify(tmp_path / "all")[str(tmp_path / "all")]
    assert answer.startswith(
        "accepted: 4 seals, 10 entries, 3 erased (complete: true, of version 1: 0)"
    )
    kinds = [line["type"] for line in lines_of(tmp_path / "all/log.jsonl")]
    assert (kinds.count("erased"), kinds.count("erasure"), kinds.count("seal")) == (3, 2, 4)


@pytest.mark.program("go")
def test_selection_is_accepted_and_named_as_such(log, tmp_path, verify):
    export(tmp_path / "some", "--resource-id", "anonymous")
    assert check(tmp_path / "some", is_complete=False) == []
    answer = verify(tmp_path / "some")[str(tmp_path / "some")]
    assert answer.startswith("accepted: 4 seals, 3 entries, 0 erased (complete: false,")


@pytest.mark.program("go")
def test_folder_with_entries_left_out_is_not_called_complete(log, tmp_path, verify):
    """The header is not signed."""
    export(tmp_path / "all")
    header, *lines = lines_of(tmp_path / "all/log.jsonl")
    first = next(line for line in lines if line["type"] == "entry")
    kept = [line for line in lines if line != first]
    write_lines(tmp_path / "all/log.jsonl", [{**header, "complete": False}, *kept])
    assert check(tmp_path / "all", is_complete=False) == []
    answer = verify(tmp_path / "all")[str(tmp_path / "all")]
    assert answer.startswith("accepted: 4 seals, 9 entries, 3 erased (complete: false,")


@pytest.mark.program("go")
@pytest.mark.parametrize("entry_version", [1])
def test_entries_of_version_1_are_proved_but_not_their_contents(
    settings, tmp_path, write, verify, entry_version
):
    configure_checkpoints(settings, tmp_path / "tiles")
    write()
    list(seal_pending())
    checkpoint_publish()
    export(tmp_path / "all")
    assert check(tmp_path / "all") == []
    assert (
        "1 entries, 0 erased (complete: true, of version 1: 1)"
        in verify(tmp_path / "all")[str(tmp_path / "all")]
    )


@pytest.mark.program("go")
def test_each_of_a_thousand_mutations_is_refused(log, tmp_path, verify):
    original = tmp_path / "all"
    export(original)
    dice = random.Random(7)
    folders = []
    while len(folders) < MUTATIONS:
        folder = tmp_path / f"mutation-{len(folders)}"
        shutil.copytree(original, folder)
        mutate(folder, dice)
        folders.append(folder)
    answers = verify(*folders)
    accepted = [name for name, answer in answers.items() if not answer.startswith("REFUSED")]
    assert accepted == []
    assert [folder.name for folder in folders if not check(folder)] == []


def mutate(folder, dice):
    """Change one thing in one file."""
    name = dice.choice(["checkpoint", "checkpoints.jsonl", *["log.jsonl"] * 4])
    path = folder / name
    if name == "checkpoint":
        path.write_text(altered_text(path.read_text(), dice))
        return
    lines = path.read_text().splitlines()
    first = 1 if name == "log.jsonl" else 0
    place = dice.randrange(first, len(lines))
    if dice.random() < 0.3:
        reorder(lines, place, first, dice)
    else:
        line = json.loads(lines[place])
        while not alter_value(line, dice):
            pass
        lines[place] = json.dumps(line)
    path.write_text("".join(f"{line}\n" for line in lines))


def reorder(lines, place, first, dice):
    way = dice.choice(["remove", "repeat", "swap", "cut"])
    if way == "remove":
        del lines[place]
    elif way == "repeat":
        lines.insert(place, lines[place])
    elif way == "cut":
        del lines[place:]
    else:
        other = dice.choice([number for number in range(first, len(lines)) if number != place])
        lines[place], lines[other] = lines[other], lines[place]


def alter_value(line, dice):
    """Alter one value that an outsider can verify; return whether one was found."""
    names = [name for name in line if name not in FREE]
    if line["type" if "type" in line else "note"] == "erasure":
        names = ["id", "leaf", "seal", "position", "path"]
    holder, name = line, dice.choice(names)
    while isinstance(holder[name], (dict, list)):
        holder = holder[name]
        if not holder:
            return False
        name = dice.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    value = holder[name]
    if isinstance(value, str) and value in ("left", "right"):
        return False  # x/mod computes the sides
    if isinstance(value, bool) or value is None:
        holder[name] = "x"
    elif isinstance(value, str):
        holder[name] = altered_text(value, dice)
    else:
        holder[name] = value + dice.choice([-1, 1, 256])
    return True


def altered_text(text, dice):
    place = dice.randrange(len(text) + 1)
    letters = set("0123456789abcdefX \n") - {text[place : place + 1]}
    letter = dice.choice(sorted(letters))
    return text[:place] + letter + text[place + dice.choice([0, 1]) :]


@pytest.mark.program("go")
def test_signature_with_other_unused_bits_is_refused(log, tmp_path, verify):
    """68 bytes end in a letter of which base64 uses four bits of six."""
    export(tmp_path / "all")
    note = (tmp_path / "all/checkpoint").read_text()
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    start, last = note[:-3], letters.index(note[-3])
    assert note.endswith("=\n")
    folders = [tmp_path / f"bits-{bits}" for bits in (1, 2, 3)]
    for bits, folder in enumerate(folders, 1):
        shutil.copytree(tmp_path / "all", folder)
        (folder / "checkpoint").write_text(f"{start}{letters[last + bits]}=\n")
    answers = verify(*folders).values()
    assert all(answer.endswith(" not written canonically") for answer in answers)
    assert all("not base64 in canonical form" in check(folder)[0] for folder in folders)


@pytest.mark.program("go")
def test_fork_signed_with_the_genuine_key_is_refused(log, tmp_path, verify):
    export(tmp_path / "all")
    for place, name in ((-1, "newest"), (1, "older")):
        folder = tmp_path / name
        shutil.copytree(tmp_path / "all", folder)
        lines = lines_of(folder / "checkpoints.jsonl")
        head = TreeHead.parse(split_note(lines[place]["note"])[0])
        fork = TreeHead(head.origin, head.size, bytes(32)).text
        lines[place]["note"] = add_signatures(fork + "\n", [KEY.sign(fork)])
        (folder / "checkpoints.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
        if name == "newest":
            (folder / "checkpoint").write_text(lines[place]["note"])
        assert verify(folder)[str(folder)].startswith("REFUSED")
        assert check(folder) != []


@pytest.mark.program("go")
def test_checkpoint_of_another_key_is_refused(log, tmp_path, verify):
    export(tmp_path / "all")
    note = (tmp_path / "all/checkpoint").read_text()
    text, _ = split_note(note)
    other = generate_key(KEY.name)
    (tmp_path / "all/checkpoint").write_text(add_signatures(text + "\n", [other.sign(text)]))
    assert verify(tmp_path / "all")[str(tmp_path / "all")].startswith("REFUSED: checkpoint:")
    assert "no key of this log" in check(tmp_path / "all")[0]


def test_checkpoint_signed_by_a_witness_alone_is_refused(log, tmp_path, settings):
    witness = generate_key("witness.example/w1", is_witness=True)
    witnesses = {str(witness.verifier): "https://witness.example"}
    configure_checkpoints(settings, tmp_path / "tiles", WITNESSES=witnesses)
    export(tmp_path / "all")
    text, _ = split_note((tmp_path / "all/checkpoint").read_text())
    note = add_signatures(text + "\n", [witness.sign(text, at=1)])
    (tmp_path / "all/checkpoint").write_text(note)
    lines = lines_of(tmp_path / "all/checkpoints.jsonl")
    write_lines(tmp_path / "all/checkpoints.jsonl", [*lines[:-1], {**lines[-1], "note": note}])
    assert "no key of this log" in check(tmp_path / "all")[0]


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.program("go")
def test_log_continued_under_a_new_name_is_accepted(log, tmp_path, settings, write, go_program):
    """As after the restore of an old backup, whose checkpoints have the old name."""
    old_keys = [str(KEY.verifier)]
    key = generate_key("clinic.example/log-2")
    configure_checkpoints(settings, tmp_path / "tiles-2", key=key, CHECKPOINT_OLD_KEYS=old_keys)
    write()
    list(seal_pending())
    assert checkpoint_publish().note.startswith("clinic.example/log-2\n5\n")
    export(tmp_path / "all")
    assert check(tmp_path / "all") == []
    assert list(LogVerifier(heads=stored_heads()).problems()) == []
    assert len(list(stored_heads())) == 6
    (tmp_path / "both").write_text(f"{KEY.verifier}\n{key.verifier}\n")
    assert "accepted: 5 seals" in go_program(tmp_path / "both", tmp_path / "all").stdout


@pytest.mark.program("go")
def test_row_deleted_without_an_erasure_is_not_accepted(log, tmp_path, verify):
    remove_guards("default")
    entry = AuditLog.objects.order_by("id").first()
    AuditLog._base_manager.filter(pk=entry.pk)._raw_delete("default")
    export(tmp_path / "all")
    message = f"entry {entry.pk} is missing, without an erasure"
    assert [problem.partition(": ")[2] for problem in check(tmp_path / "all")] == [message]
    assert verify(tmp_path / "all")[str(tmp_path / "all")] == f"REFUSED: {message}"


@pytest.mark.parametrize("reason", ["user", "retain"])
def test_row_passed_off_as_erased_by_another_erasure_is_detected(log, tmp_path, reason):
    remove_guards("default")
    erasure = Erasure.objects.get(reason=reason)
    entry = AuditLog.objects.order_by("id").first()
    AuditLog._base_manager.filter(pk=entry.pk)._raw_delete("default")
    Leaf.objects.filter(pk=entry.pk).update(erasure_id=erasure.pk)
    export(tmp_path / "more")
    (problem,) = check(tmp_path / "more")
    entries = erasure.entries if reason == "user" else 0
    assert f"erasure {erasure.pk} has erased {entries} entries, but {entries + 1} name" in problem
    if reason == "user":
        other = Leaf.objects.filter(erasure_id=erasure.pk).exclude(pk=entry.pk).first()
        Leaf.objects.filter(pk=other.pk).update(erasure_id=uuid.uuid4())
        export(tmp_path / "other")
        missing, problem = check(tmp_path / "other")
        assert "is missing, but 1 entries name it" in missing
        assert f"{entries} name it here, or other ones" in problem


@pytest.mark.program("go")
@pytest.mark.parametrize("rule", ["cascade", "retain"])
@pytest.mark.parametrize("options", [(), ("--resource-type", "upload")])
def test_folder_has_the_erasures_that_are_newer_than_its_checkpoint(
    settings, tmp_path, write, django_user_model, verify, rule, options
):
    configure_checkpoints(settings, tmp_path / "tiles", ON_USER_DELETE=rule)
    users = [
        django_user_model.objects.create_user(email=f"{name}@clinic.example") for name in "abc"
    ]
    for user in users:
        write(user=user)
    list(seal_pending())
    checkpoint_publish()
    users[0].delete()
    list(seal_pending())  # one erasure is sealed, but not published
    users[1].delete()
    users[2].delete()
    export(tmp_path / "all", *options)
    assert check(tmp_path / "all", is_complete=not options) == []
    assert verify(tmp_path / "all")[str(tmp_path / "all")].startswith("accepted: 1 seals")
    lines = lines_of(tmp_path / "all/log.jsonl")
    kept = [line for line in lines if line["type"] != "erasure"]
    write_lines(tmp_path / "all/log.jsonl", kept)
    assert len(lines) - len(kept) == (0 if rule == "cascade" and options else 3)
    problems = check(tmp_path / "all", is_complete=not options)
    assert bool(problems) == (len(lines) > len(kept))


def test_entry_passed_off_as_erased_by_an_unknown_erasure_is_detected(log, tmp_path):
    def alter(line):
        names = ("leaf", "seal", "position", "path")
        erased = {"type": "erased", "id": line["entry"]["id"], "erasure": str(uuid.uuid4())}
        return {**erased, **{name: line[name] for name in names}}

    export(tmp_path / "all")
    alter_first_entry(tmp_path / "all", alter)
    (problem,) = check(tmp_path / "all")
    assert "is missing, but 1 entries name it" in problem


def test_entries_erased_before_they_were_sealed_are_accepted(
    settings, tmp_path, write, django_user_model
):
    configure_checkpoints(settings, tmp_path / "tiles", SEAL_BATCH_SIZE=2)
    user = django_user_model.objects.create_user(email="a@clinic.example")
    for _ in range(5):
        write(user=user)
    user.delete()
    next(seal_pending())
    checkpoint_publish()
    export(tmp_path / "part")
    list(seal_pending())
    checkpoint_publish()
    export(tmp_path / "all")
    assert check(tmp_path / "part") == check(tmp_path / "all") == []


@pytest.mark.program("go")
def test_seal_repeated_in_a_selection_is_refused(log, tmp_path, verify):
    export(tmp_path / "some", "--resource-id", "anonymous")
    lines = lines_of(tmp_path / "some/log.jsonl")
    write_lines(tmp_path / "some/log.jsonl", [*lines[:3], *lines[1:3], *lines[3:]])
    assert verify(tmp_path / "some")[str(tmp_path / "some")].startswith("REFUSED: line 4")
    assert check(tmp_path / "some") != []


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_folder_is_not_written_from_damaged_tiles(log, tmp_path, damage):
    for path in (tmp_path / "tiles/tile/0").rglob("*"):
        if path.is_file() and damage == "truncated":
            path.write_bytes(path.read_bytes()[:-1])
        elif path.is_file():
            path.unlink()
    with pytest.raises(CommandError, match="can't be written") as refused:
        export(tmp_path / "all")
    assert refused.value.returncode == 2


def test_folder_of_altered_tiles_is_refused(log, tmp_path):
    for path in (tmp_path / "tiles/tile/0").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(len(path.read_bytes())))
    export(tmp_path / "all")
    assert any("is not in the tree" in problem for problem in check(tmp_path / "all"))


def test_problem_with_an_altered_value_has_one_line(log, tmp_path):
    export(tmp_path / "all")
    lines = lines_of(tmp_path / "all/log.jsonl")
    write_lines(tmp_path / "all/log.jsonl", [*lines, {**lines[1], "key_id": "x\nNo problems."}])
    problems = "\n".join(check(tmp_path / "all"))
    assert "line 21: key x?No problems. is not in the settings" in problems


@pytest.mark.program("go")
def test_entry_without_its_user_is_refused(log, tmp_path, verify):
    export(tmp_path / "all")
    lines = lines_of(tmp_path / "all/log.jsonl")
    for line in lines:
        if line["type"] == "entry" and line["entry"]["user_id"]:
            line["entry"]["user_id"] = line["actor_nonce"] = None
    write_lines(tmp_path / "all/log.jsonl", lines)
    assert "is of another user" in verify(tmp_path / "all")[str(tmp_path / "all")]
    assert "inconsistent user" in check(tmp_path / "all")[0]


def alter_first_entry(folder, alter):
    """Change the line of the first entry."""
    lines = lines_of(folder / "log.jsonl")
    place = next(place for place, line in enumerate(lines) if line["type"] == "entry")
    lines[place] = alter(lines[place])
    write_lines(folder / "log.jsonl", lines)


@pytest.mark.program("go")
def test_entry_with_a_part_of_its_user_id_in_the_nonce_is_refused(log, tmp_path, verify):
    def alter(line):
        user_id = line["entry"]["user_id"]
        entry = {**line["entry"], "user_id": user_id[3:]}
        nonce = line["actor_nonce"] + user_id[:3].encode().hex()
        return {**line, "entry": entry, "actor_nonce": nonce}

    export(tmp_path / "all")
    alter_first_entry(tmp_path / "all", alter)
    assert "is of another user" in verify(tmp_path / "all")[str(tmp_path / "all")]
    assert "differs from its subject" in check(tmp_path / "all")[0]


@pytest.mark.program("go")
@pytest.mark.parametrize("name", ["checkpoints.jsonl", "log.jsonl"])
def test_lines_after_a_closing_bracket_are_refused(log, tmp_path, verify, name):
    """Go's decoder takes the bracket for the end of an array."""
    export(tmp_path / "all")
    with (tmp_path / "all" / name).open("a") as file:
        file.write(']\n{"type": "entry", "entry": {"action": "forged"}}\n')
    assert "can't be read to its end" in verify(tmp_path / "all")[str(tmp_path / "all")]
    assert check(tmp_path / "all") != []


@pytest.mark.program("go")
def test_line_with_a_second_type_in_capitals_is_refused(log, tmp_path, verify):
    """Go's decoder reads both as the type, and the last one counts."""

    def alter(line):
        entry = {**line["entry"], "action": "forged"}
        hidden = {"Type": "erased", "Version": 0, "id": entry["id"], "erasure": "x"}
        return {**line, "entry": entry, **hidden}

    export(tmp_path / "all")
    alter_first_entry(tmp_path / "all", alter)
    assert verify(tmp_path / "all")[str(tmp_path / "all")].startswith("REFUSED: unknown: ")
    assert "differs from its leaf" in check(tmp_path / "all")[0]


@pytest.mark.program("go")
def test_entry_presented_as_an_erasure_is_refused(log, tmp_path, verify):
    def alter(line):
        place = {name: line[name] for name in ("leaf", "seal", "position", "path")}
        return {"type": "erasure", "id": line["entry"]["id"].to_bytes(8, "big").hex(), **place}

    export(tmp_path / "all")
    alter_first_entry(tmp_path / "all", alter)
    assert "is not under its seal" in verify(tmp_path / "all")[str(tmp_path / "all")]
    assert check(tmp_path / "all") != []


@pytest.mark.program("go")
def test_leaf_that_covers_a_part_of_the_entry_is_refused(settings, tmp_path, write, verify):
    """The site itself could show anything as the other values later."""
    configure_checkpoints(settings, tmp_path / "tiles")
    entry = write(user=None)
    row, nonce = '{"actor":null,"version":2}', bytes(32)
    remove_guards("default")
    Leaf.objects.filter(pk=entry.pk).update(hash=entry_leaf_v2(nonce, row.encode()))
    list(seal_pending())
    checkpoint_publish()
    export(tmp_path / "all")
    alter_first_entry(
        tmp_path / "all", lambda line: {**line, "row": row, "nonce": nonce.hex(), "subject": None}
    )
    answer = verify(tmp_path / "all")[str(tmp_path / "all")]
    assert answer == "REFUSED: entry differs from its row"


@pytest.mark.parametrize("name", ["checkpoint", "checkpoints.jsonl", "log.jsonl"])
def test_folder_with_a_missing_file_is_refused(log, tmp_path, name):
    export(tmp_path / "all")
    (tmp_path / "all" / name).unlink()
    assert "is not an export with proofs" in check(tmp_path / "all")[0]


def test_folder_has_nothing_of_erased_and_deleted_users(log, tmp_path, settings, user):
    ids = [str(value) for value in AuditLog.objects.values_list("user_id", flat=True) if value]
    export(tmp_path / "before")
    text = (tmp_path / "before/log.jsonl").read_text()
    erased = [line for line in lines_of(tmp_path / "before/log.jsonl") if line["type"] == "erased"]
    assert {tuple(line) for line in erased} == {
        ("type", "id", "leaf", "erasure", "seal", "position", "path")
    }
    assert str(user.pk) in text
    user.delete()
    list(seal_pending())
    checkpoint_publish()
    export(tmp_path / "after")
    assert check(tmp_path / "after") == []
    lines = lines_of(tmp_path / "after/log.jsonl")
    assert not set(ids) & {str(line["entry"]["user_id"]) for line in lines if "entry" in line}
    assert not any(line.get("actor_nonce") for line in lines)
    published = "".join(
        path.read_text("latin-1") for path in (tmp_path / "tiles").rglob("*") if path.is_file()
    )
    assert not any(value in published for value in ids)


def test_folder_needs_a_checkpoint_and_a_new_place(settings, tmp_path, write):
    configure_checkpoints(settings, tmp_path / "tiles")
    with pytest.raises(CommandError, match="no published checkpoint yet") as refused:
        export(tmp_path / "all")
    assert refused.value.returncode == 2
    write()
    list(seal_pending())
    checkpoint_publish()
    export(tmp_path / "all")
    with pytest.raises(CommandError, match="can't be written"):
        export(tmp_path / "all")


@pytest.mark.program("go")
def test_ten_thousand_random_entries_are_accepted(settings, tmp_path, user, verify):
    configure_checkpoints(settings, tmp_path / "tiles", SEAL_BATCH_SIZE=37)
    dice = random.Random(3)
    while AuditLog.objects.count() < 10_000:
        count = dice.randrange(1, 700)
        AuditLog.objects.bulk_create([random_entry(user, dice) for _ in range(count)])
        list(seal_pending())
        checkpoint_publish()
    export(tmp_path / "all")
    assert list(folder_problems(tmp_path / "all")) == []
    answer = verify(tmp_path / "all")[str(tmp_path / "all")]
    assert answer.startswith("accepted: ")
    assert (
        f", {AuditLog.objects.count()} entries, 0 erased (complete: true, of version 1: 0)"
        in answer
    )


def random_entry(user, dice):
    def text(length):
        return "".join(dice.choice("abc äß漢字🩺\\\"'<>&\n\t") for _ in range(length)) or "x"

    return AuditLog(
        user=dice.choice([user, None]),
        action=text(dice.randrange(50)),
        resource_type=text(dice.randrange(50)),
        resource_id=text(dice.randrange(100)),
        ip_address=dice.choice([None, "192.0.2.1", "2001:db8::1"]),
        user_agent=text(dice.randrange(300)),
        details={text(5): dice.choice([text(20), 1.5, -3, None, True, [text(3)], {text(2): 1}])},
        data_subject=dice.choice(["", text(30)]),
        purpose=dice.choice(["", "TREAT"]),
        origin=dice.choice(["client", "server", "import"]),
    )
