"""``manage.py audit_stream``."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from myometrics_core.doctor import describe_age
from myometrics_core.management.command_line import Progress
from myometrics_core.times import seconds_since

from ...dead_letters import dead_letters_send
from ...delivery import StreamFailed
from ...jobs import send_now
from ...models import DeadLetter, Stream
from ...options import stream_names, stream_options
from ...pending import pending_count, pending_since, position_of
from ...services import (
    SealNotReached,
    configured_streams,
    stream_pause,
    stream_replay,
    stream_resume,
    stream_row,
)

CHECKPOINTS: Final = "myometrics_audit.checkpoints"


class Command(BaseCommand):
    """Show and control the streams of the audit log."""

    help = (
        "Show and control the streams of the audit log. 'pause', 'resume' and 'replay' leave an "
        "audit entry. Exit code 1 if a stream can't be sent or refuses entries, 2 for wrong "
        "arguments."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        listing = commands.add_parser("list", help="show all streams with their state and lag")
        listing.add_argument("--json", action="store_true", help="one JSON line for each")
        for name, text in (
            ("pause", "stop a stream; nothing is lost"),
            ("resume", "let a paused or dead stream continue where it stopped"),
            ("send", "send now what is pending, until nothing is left"),
            ("retry", "send the entries again that the receiver refused"),
        ):
            commands.add_parser(name, help=text).add_argument("stream", metavar="NAME")
        replay = commands.add_parser("replay", help="send entries again that were sent before")
        replay.add_argument("stream", metavar="NAME")
        start = replay.add_mutually_exclusive_group(required=True)
        start.add_argument("--from-start", action="store_true", help="the whole log")
        start.add_argument("--from-seal", type=int, metavar="NUMBER", help="from this seal on")
        start.add_argument(
            "--from-checkpoint", type=int, metavar="SIZE", help="what is newer than a checkpoint"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        command = options["command"]
        if command == "list":
            self._list(options["json"])
            return
        name = options["stream"]
        if name not in stream_names():
            known = ", ".join(stream_names()) or "none is configured"
            raise CommandError(f"There is no stream {name!r}; known: {known}.", returncode=2)
        if command == "replay":
            self._replay(name, options)
        else:
            getattr(self, f"_{command}")(name)

    def _pause(self, name: str) -> None:
        stream_pause(name, actor=None)
        self.stdout.write(f"The stream {name} is paused.")

    def _resume(self, name: str) -> None:
        stream_resume(name, actor=None)
        self.stdout.write(f"The stream {name} continues.")

    def _replay(self, name: str, options: dict[str, Any]) -> None:
        number = 1 if options["from_start"] else options["from_seal"]
        if options["from_checkpoint"] is not None:
            number = _seal_after(options["from_checkpoint"])
        if number < 1:
            raise CommandError("Seals are numbered from 1.", returncode=2)
        try:
            stream_replay(name, seal_number=number, actor=None)
        except SealNotReached as error:
            raise CommandError(str(error), returncode=2) from None
        self.stdout.write(f"The stream {name} sends again from seal {number:,} on.")

    def _send(self, name: str) -> None:
        stream = stream_row(name)
        if stream.state != Stream.State.RUNNING:
            raise CommandError(
                f"The stream is in the state {stream.state!r}; "
                f"run 'manage.py audit_stream resume {name}'."
            )
        bar = Progress(sys.stderr, pending_count(position_of(stream)), "messages")
        try:
            is_done = send_now(name, bar.update)
        except StreamFailed as error:
            raise CommandError(f"The stream {name} can't be sent: {error}") from None
        finally:
            bar.finish()
        now = stream_row(name)
        self.stdout.write(f"Messages sent: {now.sent - stream.sent:,}.")
        self._report_refused(now)
        if not is_done:
            raise CommandError("Another process is sending the stream. Try again in a minute.")

    def _retry(self, name: str) -> None:
        try:
            sent, refused = dead_letters_send(name)
        except (StreamFailed, ImproperlyConfigured) as error:
            raise CommandError(f"The entries can't be sent: {error}") from None
        self.stdout.write(f"Messages sent: {sent:,}. Refused again: {refused:,}.")
        if refused:
            sys.exit(1)

    def _report_refused(self, stream: Stream) -> None:
        if stream.state == Stream.State.DEAD:
            raise CommandError(f"The receiver refuses all entries: {stream.last_error}.")
        if refused := DeadLetter.objects.filter(stream=stream).count():
            self.stdout.write(f"Entries that the receiver has refused: {refused:,}.")

    def _list(self, as_json: bool) -> None:
        if not stream_names() and not as_json:
            self.stdout.write("MYOMETRICS_AUDIT has no STREAMS.")
        for stream in configured_streams():
            facts = _facts(stream)
            self.stdout.write(json.dumps(facts) if as_json else _text(facts))


def _facts(stream: Stream) -> dict[str, Any]:
    position = position_of(stream)
    try:
        receiver = stream_options(stream.name).place
    except ImproperlyConfigured:
        receiver = "(its options are invalid)"
    return {
        "stream": stream.name,
        "receiver": receiver,
        "state": stream.state,
        "seal_number": stream.seal_number,
        "entry_id": stream.entry_id,
        "sent": stream.sent,
        "pending": pending_count(position),
        "lag_seconds": round(seconds_since(pending_since(position))),
        "refused": DeadLetter.objects.filter(stream=stream).count(),
        "error": stream.last_error,
    }


def _text(facts: dict[str, Any]) -> str:
    error = f", failing: {facts['error']}" if facts["error"] else ""
    return (
        f"{facts['stream']} to {facts['receiver']}: {facts['state']}, {facts['sent']:,} sent, "
        f"{facts['pending']:,} pending ({describe_age(facts['lag_seconds'])}), "
        f"{facts['refused']:,} refused{error}"
    )


def _seal_after(size: int) -> int:
    """Return the first seal that the checkpoint of this size doesn't cover."""
    if not apps.is_installed(CHECKPOINTS):
        raise CommandError(f"--from-checkpoint needs the app {CHECKPOINTS}.", returncode=2)
    from ....checkpoints.models import Checkpoint  # noqa: PLC0415 (opt-in)

    if not 0 <= size < 2**63 or not Checkpoint.objects.filter(size=size).exists():
        raise CommandError(f"There is no checkpoint of {size} seals.", returncode=2)
    return size + 1
