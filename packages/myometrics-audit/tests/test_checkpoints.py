"""Checkpoints and tiles of the tree of seals: signed once, published in order, never forked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from checkpoint_site import KEY, ORIGIN, configure_checkpoints
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.core.serializers import deserialize, serialize
from django.db import connection
from django.utils import timezone

from myometrics_audit.checkpoints import publication
from myometrics_audit.checkpoints.checks import (
    check_checkpoint_keys,
    check_checkpoint_storage,
    check_key_file,
)
from myometrics_audit.checkpoints.doctor import examine_checkpoints
from myometrics_audit.checkpoints.gauges import checkpoint_lag_seconds
from myometrics_audit.checkpoints.jobs import CHECKPOINT_JOB
from myometrics_audit.checkpoints.models import Checkpoint
from myometrics_audit.checkpoints.publication import (
    PublicationFailed,
    checkpoint_publish,
    published_nodes,
)
from myometrics_audit.log.guards import remove_guards
from myometrics_audit.models import Seal
from myometrics_audit.sealing import seal_pending
from myometrics_audit.signing.merkle import (
    MerkleTree,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    is_included,
    leaf_node,
)
from myometrics_audit.signing.notes import (
    TreeHead,
    add_signatures,
    generate_key,
    split_note,
    verified_by,
)
from myometrics_audit.signing.signatures import tree_seal
from myometrics_audit.signing.tiles import split_bundle
from myometrics_core.jobs import enqueue, run_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(settings, tmp_path):
    """The folder in which tiles are published."""
    configure_checkpoints(settings, tmp_path / "tiles")
    return tmp_path / "tiles"


@pytest.fixture
def seal(write, settings):
    """A function that writes and seals entries: one seal for each."""
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "SEAL_BATCH_SIZE": 1}

    def make(count=1):
        for _ in range(count):
            write()
        list(seal_pending())

    return make


def entries():
    return [tree_seal(seal) for seal in Seal.objects.order_by("number")]


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_checkpoint_is_signed_and_covers_all_seals(folder, seal):
    seal(3)
    checkpoint = checkpoint_publish()
    assert checkpoint_publish() is None
    assert (folder / "checkpoint").read_text() == checkpoint.note
    assert verified_by(checkpoint.note, [KEY.verifier]) == [KEY.verifier]
    head = TreeHead.parse(split_note(checkpoint.note)[0])
    assert head == TreeHead(ORIGIN, 3, MerkleTree(entries()).root())
    seal(2)
    assert checkpoint_publish().size == 5
    assert Checkpoint.objects.count() == 2


def test_nothing_is_published_without_seals(folder, write):
    write()
    assert checkpoint_publish() is None
    assert not folder.exists()


def test_tiles_contain_the_seals_and_prove_them(folder, seal):
    seal(260)
    first = checkpoint_publish()
    assert set(files(folder)) == {
        "checkpoint",
        "tile/0/000",
        "tile/0/001.p/4",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/4",
    }
    assert split_bundle((folder / "tile/entries/000").read_bytes()) == entries()[:256]
    assert (folder / "tile/0/001.p/4").read_bytes() == b"".join(map(leaf_node, entries()[256:]))
    seal(3)
    second = checkpoint_publish()
    node_at = published_nodes(second.size)
    for place in (0, 255, 256, 262):
        proof = inclusion_proof(place, 263, node_at)
        assert is_included(entries()[place], place, 263, proof, second.root)
    proof = consistency_proof(260, 263, node_at)
    assert is_consistent(260, bytes(first.root), 263, bytes(second.root), proof)


def test_partial_tiles_are_deleted_once_the_tile_is_full(folder, seal):
    seal(254)
    checkpoint_publish()
    seal(1)
    checkpoint_publish()
    assert {name for name in files(folder) if ".p" in name} == {
        "tile/0/000.p/254",
        "tile/0/000.p/255",
        "tile/entries/000.p/254",
        "tile/entries/000.p/255",
    }
    seal(1)
    checkpoint_publish()
    assert set(files(folder)) == {
        "checkpoint",
        "tile/0/000",
        "tile/1/000.p/1",
        "tile/entries/000",
    }
    # Proofs of the old trees still work.
    assert inclusion_proof(3, 254, published_nodes(254))


def test_tree_that_grows_in_steps_is_published_like_one_in_one(folder, seal, settings, tmp_path):
    for count in (1, 2, 255, 3):
        seal(count)
        checkpoint_publish()
    grown = files(folder)
    Checkpoint.objects.all().delete()
    configure_checkpoints(settings, tmp_path / "other")
    checkpoint_publish()
    assert grown.items() >= files(tmp_path / "other").items()


@pytest.mark.parametrize("place", ["", "tile"])
def test_lost_tiles_are_written_again_from_the_seals(folder, seal, place):
    seal(258)
    checkpoint_publish()
    expected = files(folder)
    for path in (folder / place).rglob("*"):
        if path.is_file():
            path.unlink()
    seal()
    checkpoint_publish()
    assert files(folder)["tile/0/000"] == expected["tile/0/000"]
    assert files(folder)["tile/entries/000"] == expected["tile/entries/000"]


def test_changed_tile_is_replaced(folder, seal):
    seal(2)
    checkpoint_publish()
    (folder / "tile/0/000.p/2").write_bytes(bytes(64))
    seal()
    checkpoint = checkpoint_publish()
    assert bytes(checkpoint.root) == MerkleTree(entries()).root()


@pytest.fixture
def restored(folder, seal):
    """A log of four seals whose database was restored with two: the published files."""
    for _ in range(2):
        seal(2)
        checkpoint_publish()
    remove_guards(connection.alias)
    Checkpoint.objects.filter(size=4).delete()
    Seal.objects.filter(number__gt=2).delete()
    return files(folder)


def test_publication_is_refused_after_a_restore_of_an_old_backup(folder, seal, restored):
    with pytest.raises(PublicationFailed, match=r"has 4 seals, the database 2: was an old backup"):
        checkpoint_publish()
    seal(3)
    with pytest.raises(PublicationFailed, match="was an old backup restored"):
        checkpoint_publish()
    assert files(folder) == restored


def test_checkpoint_of_an_old_backup_is_not_published_again(folder, restored):
    """The backup was made after it was stored, and before it was published."""
    Checkpoint.objects.update(published_at=None)
    with pytest.raises(PublicationFailed, match=r"has 4 seals, the database 2: was an old backup"):
        checkpoint_publish()
    assert files(folder) == restored


def test_unpublished_checkpoint_of_an_old_backup_gets_the_new_name(
    folder, seal, settings, tmp_path
):
    seal(2)
    checkpoint_publish()
    Checkpoint.objects.update(published_at=None)
    key = generate_key("clinic.example/log-2")
    old_keys = [str(KEY.verifier)]
    configure_checkpoints(settings, tmp_path / "new", key=key, CHECKPOINT_OLD_KEYS=old_keys)
    assert checkpoint_publish().note.startswith("clinic.example/log-2\n2\n")
    seal()
    assert checkpoint_publish().note.startswith("clinic.example/log-2\n3\n")
    assert all(verified_by(one.note, [key.verifier]) for one in Checkpoint.objects.all())


def test_seals_missing_under_the_newest_checkpoint_stop_publication(folder, seal):
    seal(4)
    checkpoint_publish()
    remove_guards(connection.alias)
    Seal.objects.filter(number__gt=2).delete()
    with pytest.raises(PublicationFailed, match="covers 4 seals, but 2 exist"):
        checkpoint_publish()


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("published", "of 2 seals is not the one in the database: was the database changed"),
        ("empty", "checkpoint of 2 seals in the database is not one that this log has signed"),
        ("interrupted", "The seals up to 2 differ from the published checkpoint"),
    ],
)
def test_changed_history_is_not_signed(folder, seal, storage, message):
    """Without a key: a seal is changed, and the root of the newest checkpoint to match."""
    seal(2)
    checkpoint_publish()
    published = files(folder)
    if storage == "interrupted":
        seal()
        checkpoint_publish()
        (folder / "checkpoint").write_bytes(published["checkpoint"])
    if storage == "empty":
        shutil.rmtree(folder)
    published = files(folder)
    remove_guards(connection.alias)
    Seal.objects.filter(number=1).update(root=bytes(32))
    newest = Checkpoint.objects.order_by("size").last()
    Checkpoint.objects.filter(size=newest.size).update(root=MerkleTree(entries()).root())
    seal()
    with pytest.raises(PublicationFailed, match=message):
        checkpoint_publish()
    assert files(folder) == published


@pytest.mark.parametrize("is_published", [True, False])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (1, "The seals up to 2 differ from the published checkpoint"),
        (None, "checkpoint of 3 seals in the database is not that of its seals"),
    ],
)
def test_history_signed_with_a_stolen_old_key_is_not_continued(
    folder, seal, settings, changed, message, is_published
):
    seal(2)
    key = generate_key(ORIGIN)
    configure_checkpoints(settings, folder, key=key, CHECKPOINT_OLD_KEYS=[str(KEY.verifier)])
    checkpoint_publish()
    published = files(folder)
    seal()
    remove_guards(connection.alias)
    Seal.objects.filter(number=changed).update(root=bytes(32))
    root = MerkleTree(entries()).root() if changed else bytes(32)
    text = TreeHead(ORIGIN, 3, root).text
    note = add_signatures(text + "\n", [KEY.sign(text)])
    moment = timezone.now() if is_published else None
    Checkpoint.objects.create(size=3, root=root, note=note, published_at=moment)
    seal()
    with pytest.raises(PublicationFailed, match=message):
        checkpoint_publish()
    assert files(folder) == published


def test_history_of_an_earlier_name_is_not_continued(folder, seal, settings, tmp_path):
    """Its seals and checkpoints are public; the log was restored without the newest ones."""
    seal(4)
    earlier = checkpoint_publish()
    remove_guards(connection.alias)
    newest_seals = list(Seal.objects.filter(number__gt=2))
    Checkpoint.objects.all().delete()
    Seal.objects.filter(number__gt=2).delete()
    seal()
    key = generate_key("clinic.example/log-2")
    old_keys = [str(KEY.verifier)]
    configure_checkpoints(settings, tmp_path / "new", key=key, CHECKPOINT_OLD_KEYS=old_keys)
    assert checkpoint_publish().size == 3
    published = files(tmp_path / "new")
    Seal.objects.filter(number=3).delete()
    Seal.objects.bulk_create(newest_seals)
    earlier.save(force_insert=True)
    with pytest.raises(PublicationFailed, match="up to 3 differ from the published checkpoint"):
        checkpoint_publish()
    seal()
    with pytest.raises(PublicationFailed, match="up to 3 differ from the published checkpoint"):
        checkpoint_publish()
    assert files(tmp_path / "new") == published


def test_checkpoint_missing_under_the_newest_one_stops_publication(folder, seal):
    seal()
    checkpoint_publish()
    first = (folder / "checkpoint").read_bytes()
    seal()
    checkpoint_publish()
    (folder / "checkpoint").write_bytes(first)
    Checkpoint.objects.filter(size=1).delete()
    with pytest.raises(PublicationFailed, match="of 1 seals is not the one in the database"):
        checkpoint_publish()


def test_older_checkpoint_in_the_storage_is_replaced(folder, seal):
    """As after a publication that was interrupted, or a restored backup of the storage."""
    seal()
    checkpoint_publish()
    first = (folder / "checkpoint").read_bytes()
    seal()
    checkpoint_publish()
    (folder / "checkpoint").write_bytes(first)
    assert checkpoint_publish() is None
    seal()
    assert checkpoint_publish().note == (folder / "checkpoint").read_text()


def test_log_with_another_origin_is_continued(folder, seal, settings, tmp_path):
    seal()
    configure_checkpoints(settings, folder, CHECKPOINT_ORIGIN="clinic.example/a")
    checkpoint_publish()
    seal()
    configure_checkpoints(settings, tmp_path / "new", CHECKPOINT_ORIGIN="clinic.example/b")
    assert checkpoint_publish().note.startswith("clinic.example/b\n2\n")


@pytest.mark.parametrize("change", [{"root": bytes(32)}, {"size": 9}, {"note": "nonsense"}])
def test_forged_checkpoint_of_the_database_is_not_published(folder, seal, change):
    seal(2)
    note = checkpoint_publish().note
    root = Checkpoint.objects.get().root
    forged = {"size": 2, "root": root, "note": note, **change}
    Checkpoint.objects.all().delete()
    Checkpoint.objects.create(**forged)
    published = files(folder)
    with pytest.raises(PublicationFailed, match=r"not made by this log|not the one in"):
        checkpoint_publish()
    assert files(folder) == published
    other = generate_key(ORIGIN)
    text = split_note(note)[0]
    note = add_signatures(text + "\n", [other.sign(text)])
    Checkpoint.objects.all().delete()
    Checkpoint.objects.create(size=2, root=root, note=note)
    with pytest.raises(PublicationFailed, match="no key of this log"):
        checkpoint_publish()


def test_publication_over_another_log_is_refused(folder, seal, settings):
    seal()
    checkpoint_publish()
    configure_checkpoints(settings, folder, key=generate_key("other.example/log"))
    Checkpoint.objects.all().delete()
    with pytest.raises(PublicationFailed, match="another log or key"):
        checkpoint_publish()


@pytest.mark.parametrize("file_format", ["json", "jsonl", "xml", "yaml"])
def test_checkpoint_survives_dumpdata_and_loaddata(folder, seal, file_format):
    seal()
    checkpoint = checkpoint_publish()
    Checkpoint.objects.update(timestamp=b"\x00\xff")
    dumped = serialize(file_format, Checkpoint.objects.all())
    Checkpoint.objects.all().delete()
    for loaded in deserialize(file_format, dumped):
        loaded.save()
    loaded = Checkpoint.objects.get()
    assert loaded.note == checkpoint.note
    assert (bytes(loaded.root), bytes(loaded.timestamp)) == (checkpoint.root, b"\x00\xff")


def test_missing_seal_stops_publication(folder, seal):
    seal(4)
    remove_guards(connection.alias)
    Seal.objects.filter(number=2).delete()
    with pytest.raises(PublicationFailed, match="Seal 2 is missing"):
        checkpoint_publish()
    assert not Checkpoint.objects.exists()


def test_changed_seal_is_noticed_when_tiles_are_written_again(folder, seal):
    seal(4)
    checkpoint_publish()
    remove_guards(connection.alias)
    Seal.objects.filter(number=2).update(entries=7)
    (folder / "tile/0/000.p/4").unlink()
    seal()
    with pytest.raises(PublicationFailed, match="up to 4 differ from the published checkpoint"):
        checkpoint_publish()


def test_crash_before_publication_is_completed_by_the_next_run(folder, seal, monkeypatch):
    seal(2)

    def crash(path, content):
        if path == "checkpoint":
            raise OSError("disk full")
        write_tile(path, content)

    write_tile = publication.write_tile
    monkeypatch.setattr(publication, "write_tile", crash)
    with pytest.raises(OSError, match="disk full"):
        checkpoint_publish()
    signed = Checkpoint.objects.get().note
    monkeypatch.undo()
    seal()
    assert checkpoint_publish().note == signed
    assert checkpoint_publish().size == 3
    assert checkpoint_publish() is None


@pytest.mark.django_db(transaction=True)
def test_concurrent_publications_sign_each_size_once(folder, seal, run_concurrently):
    seal(3)
    results = run_concurrently(checkpoint_publish, times=6)
    assert [one for one in results if isinstance(one, Exception)] == []
    checkpoint = Checkpoint.objects.get()
    assert (folder / "checkpoint").read_text() == checkpoint.note
    assert {one.note for one in results if one} == {checkpoint.note}


def test_publication_overtaken_by_another_is_no_restored_backup(folder, seal, monkeypatch):
    seal(3)
    read = publication.read_tile

    def read_after_another_publication(path):
        monkeypatch.setattr(publication, "read_tile", read)
        checkpoint_publish()
        return read(path)

    monkeypatch.setattr(publication, "read_tile", read_after_another_publication)
    published = checkpoint_publish()
    assert published == Checkpoint.objects.get()
    assert (folder / "checkpoint").read_text() == published.note


def test_rotated_key_signs_and_the_old_one_still_verifies(folder, seal, settings):
    seal()
    old = checkpoint_publish()
    new = generate_key(ORIGIN)
    configure_checkpoints(settings, folder, key=new, CHECKPOINT_OLD_KEYS=[str(KEY.verifier)])
    seal()
    checkpoint = checkpoint_publish()
    assert verified_by(checkpoint.note, [KEY.verifier, new.verifier]) == [new.verifier]
    assert verified_by(old.note, [KEY.verifier, new.verifier]) == [KEY.verifier]


def test_job_publishes_and_lag_falls(folder, seal):
    assert checkpoint_lag_seconds() == 0
    seal()
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        assert 3500 < checkpoint_lag_seconds() < 3700
        enqueue(CHECKPOINT_JOB, key="")
        assert run_job(CHECKPOINT_JOB)
        assert checkpoint_lag_seconds() == 0
    assert Checkpoint.objects.count() == 1


def test_doctor_reports_lag_and_missing_witnesses(folder, seal, settings):
    def severity():
        (diagnosis,) = examine_checkpoints()
        return diagnosis.state

    assert severity() == "ok"
    seal()
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        assert severity() == "problem"
    checkpoint_publish()
    assert severity() == "ok"
    key = str(generate_key("w.example", is_witness=True).verifier)
    configure_checkpoints(settings, folder, WITNESSES={key: "http://127.0.0.1:1"})
    assert severity() == "warning"


def test_admin_shows_checkpoints(folder, seal, client, django_user_model):
    seal()
    checkpoint = checkpoint_publish()
    client.force_login(django_user_model.objects.create_superuser(email="root@clinic.example"))
    page = "/admin/myometrics_audit_checkpoints/checkpoint/"
    assert client.get(page).status_code == 200
    assert ORIGIN in client.get(f"{page}{checkpoint.pk}/change/").content.decode()
    assert client.post(f"{page}{checkpoint.pk}/delete/", {"post": "yes"}).status_code == 403


def test_tree_is_served_read_only(folder, seal, client):
    assert client.get("/audit-log/checkpoint").status_code == 404
    seal(257)
    checkpoint = checkpoint_publish()
    response = client.get("/audit-log/checkpoint")
    assert response.content.decode() == checkpoint.note
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["Cache-Control"] == "no-cache, max-age=0"
    for path in ("tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1", "tile/entries/000"):
        response = client.get(f"/audit-log/{path}")
        assert b"".join(response.streaming_content) == (folder / path).read_bytes()
        assert response["Content-Type"] == "application/octet-stream"
        assert response["Cache-Control"] == "public, max-age=31536000, immutable"
        assert client.post(f"/audit-log/{path}").status_code == 405
    assert client.post("/audit-log/checkpoint").status_code == 405


def test_newest_checkpoint_is_served_behind_the_cache_of_the_site(folder, seal, client, settings):
    caching = "django.middleware.cache"
    settings.MIDDLEWARE = [
        f"{caching}.UpdateCacheMiddleware",
        *settings.MIDDLEWARE,
        f"{caching}.FetchFromCacheMiddleware",
    ]
    for _ in range(2):
        seal()
        checkpoint = checkpoint_publish()
        assert client.get("/audit-log/checkpoint").content.decode() == checkpoint.note


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/002",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/0",
        "tile/64/000",
        "tile/00/000",
        "tile/0/../../checkpoint",
        "tile/0/%2e%2e/%2e%2e/checkpoint",
        "tile/0/x000/000/000",
        "tile/0/000\n",
        "tile/entries/",
        "tile/0/000\x00",
        "tile/0/" + "x001/" * 50 + "000",
    ],
)
def test_other_paths_are_not_found(folder, seal, client, path):
    seal()
    checkpoint_publish()
    assert client.get(f"/audit-log/{path}").status_code == 404


def test_storage_without_local_files_is_overwritten(folder, seal, settings):
    storage = "django.core.files.storage.InMemoryStorage"
    settings.STORAGES = {**settings.STORAGES, "audit_checkpoints": {"BACKEND": storage}}
    for _ in range(2):
        seal()
        checkpoint = checkpoint_publish()
    with storages["audit_checkpoints"].open("checkpoint") as file:
        assert file.read().decode() == checkpoint.note


def test_audit_key_makes_a_private_key_only_its_owner_can_read(settings, tmp_path):
    path = tmp_path / "key"
    output = StringIO()
    call_command("audit_key", "--name", ORIGIN, "--output", str(path), stdout=output)
    assert path.stat().st_mode & 0o777 == 0o600
    settings.MYOMETRICS_AUDIT = {"CHECKPOINT_KEY_FILE": str(path)}
    shown = StringIO()
    call_command("audit_key", stdout=shown)
    assert shown.getvalue() == output.getvalue()
    assert list(check_checkpoint_keys()) == []
    with pytest.raises(CommandError) as exists:
        call_command("audit_key", "--name", ORIGIN, "--output", str(path))
    assert exists.value.returncode == 2
    with pytest.raises(CommandError, match="the name of a key"):
        call_command("audit_key", "--output", str(tmp_path / "second"))
    assert not (tmp_path / "second").exists()


def test_missing_or_malformed_keys_are_reported_without_being_shown(settings, tmp_path):
    secret = KEY.text.replace("PRIVATE+KEY+clinic", "PRIVATE+KEY+other")
    for options in (
        {},
        {"CHECKPOINT_KEY": secret},
        {"CHECKPOINT_KEY_FILE": str(tmp_path / "missing")},
        {"CHECKPOINT_KEY": generate_key("w", is_witness=True).text},
        {"CHECKPOINT_KEY": KEY.text, "CHECKPOINT_OLD_KEYS": ["x"]},
        {"CHECKPOINT_KEY": KEY.text, "WITNESSES": {"x": "https://witness.example"}},
    ):
        settings.MYOMETRICS_AUDIT = options
        (error,) = check_checkpoint_keys()
        assert error.id == "myometrics_audit.E030"
        assert secret not in str(error)
    settings.MYOMETRICS_AUDIT = {}
    with pytest.raises(ImproperlyConfigured):
        checkpoint_publish_without_key()


def checkpoint_publish_without_key():
    from myometrics_audit.checkpoints.checkpoint_keys import signing_key

    signing_key()


def test_key_that_others_can_reach_is_reported(settings, tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY.text)
    path.chmod(0o640)
    configure_checkpoints(settings, tmp_path / "tiles")
    settings.MYOMETRICS_AUDIT = {"CHECKPOINT_KEY_FILE": str(path)}
    assert [message.id for message in check_key_file()] == ["myometrics_audit.W032"]
    path.chmod(0o600)
    assert list(check_key_file()) == []
    for folder in ("MEDIA_ROOT", "STATIC_ROOT", "BASE_DIR"):
        setattr(settings, folder, str(tmp_path))
        assert [message.id for message in check_key_file()] == ["myometrics_audit.W033"]
        setattr(settings, folder, "")
    configure_checkpoints(settings, tmp_path)
    settings.MYOMETRICS_AUDIT = {"CHECKPOINT_KEY_FILE": str(path)}
    assert [message.id for message in check_key_file()] == ["myometrics_audit.W033"]


def test_missing_storage_is_reported(settings):
    assert list(check_checkpoint_storage()) == []
    settings.MYOMETRICS_AUDIT = {"CHECKPOINT_STORAGE": "elsewhere"}
    assert [message.id for message in check_checkpoint_storage()] == ["myometrics_audit.E031"]


def test_site_without_checkpoints_does_not_import_cryptography():
    code = (
        "import django; from django.conf import settings; "
        "settings.configure(INSTALLED_APPS=['django.contrib.auth', 'django.contrib.contenttypes', "
        "'rest_framework', 'myometrics_core', 'myometrics_audit'], USE_TZ=True); django.setup(); "
        "import myometrics_audit.urls, myometrics_audit.sealing, sys; "
        "from myometrics_audit.management.commands import audit_verify, audit_export; "
        "print('cryptography' in sys.modules, 'rfc3161_client' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["False", "False"]
