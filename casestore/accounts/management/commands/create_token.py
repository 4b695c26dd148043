"""`manage.py create_token EMAIL`: prints a new access token, and nothing else, on standard output."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive

from casestore import clock
from casestore.accounts.models import User
from casestore.accounts.services import create_token


def expiry(value: str) -> datetime:
    moment = parse_datetime(value)
    if moment is None or is_naive(moment):
        raise ValueError
    return moment


class Command(BaseCommand):
    help = "Makes a permanent access token for a user and prints it. It cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", metavar="EMAIL", help="e-mail address of the user")
        parser.add_argument("--description", default="", help="what the token is for")
        parser.add_argument("--expires-at", type=expiry, help="when it ends, as in 2030-01-31T00:00:00Z")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(email__iexact=options["email"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['email']}.")
        if not user.is_active:
            raise CommandError(f"{user.email} is disabled.")
        if options["expires_at"] is not None and options["expires_at"] <= clock.now():
            raise CommandError("The expiry lies in the past.")
        if len(options["description"]) > 255:
            raise CommandError("The description is longer than 255 characters.")
        _, token = create_token(user=user, description=options["description"], expires_at=options["expires_at"])
        self.stdout.write(token)
