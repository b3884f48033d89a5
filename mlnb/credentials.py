"""The commands of keys and tokens: their words, and what they print.

As in :mod:`mlnb.cli`, each calls one function, and nothing heavy is imported before it is known.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

Add = Callable[..., argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Add the commands to the parser, by its ``add(NAME, COMMAND, SUMMARY)``."""
    actions = _actions(add, "keys", "Look after the keys that sign promotions.")
    new = actions("new", _keys_new, "Make a key: the private half for you, the public one here.")
    new.add_argument("name", nargs="?", default="", help="whose it is; yours by default")
    actions("encryption", _keys_encryption, "Show your age recipient; make the identity first.")
    actions("list", _keys_list, "List the keys that this project knows.")
    revoke = actions("revoke", _keys_revoke, "Trust a key no more.")
    revoke.add_argument("name")
    revoke.add_argument("--reason", default="revoked", metavar="TEXT")

    actions = _actions(add, "tokens", "Look after tokens, for those who have no account: CI.")
    new = actions("new", _tokens_new, "Make a token for a person; it is shown this once.")
    new.add_argument("person")
    new.add_argument("--days", type=_days, default=90, metavar="N", help="(default %(default)s)")
    actions("list", _tokens_list, "List the tokens.")
    revoke = actions("revoke", _tokens_revoke, "Take a token back.")
    revoke.add_argument("id")


def _keys_new(options: argparse.Namespace) -> int:
    from mlnb import people, trust
    from mlnb.project import find

    project = find()
    person = people.admit(project, "keys new")
    key = trust.new_key(options.name or person.name, project.root / "deployments" / "keys")
    print(f"{key.name}: {key.keyid[:16]}; the private half is yours alone, keep it")
    print(f"Commit deployments/keys/{key.name}.json: then the project trusts it.")
    return 0


def _keys_encryption(options: argparse.Namespace) -> int:
    from mlnb import store
    from mlnb.project import find

    print(store.own_recipient(find().root))
    print(
        "Its identity is yours alone, keep it: without one of them nothing can be read.\n"
        "Put the line above into encrypt-to in [tool.mlnb], beside those of the others.",
        file=sys.stderr,
    )
    return 0


def _keys_list(options: argparse.Namespace) -> int:
    from mlnb import people, trust
    from mlnb.project import find

    project = find()
    people.admit(project, "keys list")
    known = trust.trusted(project.root / "deployments" / "keys").values()
    for key in known:
        ended = key.revoked
        told = f"revoked {ended.at[:10]} by {ended.by}: {ended.reason}" if ended else "trusted"
        print(f"{key.name:<24}  {key.keyid[:16]}  {told}")
    if not known:
        print("no key yet; `mlnb keys new` makes yours")
    return 0


def _keys_revoke(options: argparse.Namespace) -> int:
    from mlnb import people, trust
    from mlnb.project import find

    project = find()
    person = people.admit(project, "keys revoke")
    folder = project.root / "deployments" / "keys"
    key = trust.revoke(options.name, folder, by=person.name, reason=options.reason)
    print(f"{key.name} is trusted no more; commit deployments/keys/{key.name}.json")
    return 0


def _tokens_new(options: argparse.Namespace) -> int:
    import datetime

    from mlnb import people
    from mlnb.people import tokens
    from mlnb.project import find

    project = find()
    people.admit(project, "tokens new")
    now = datetime.datetime.now(datetime.UTC)
    token, text = tokens.new(project, options.person, days=options.days, now=now)
    print(f"The token is shown this once: {text}")
    print(f"It is {token.id}, for {token.person}, until {token.expires[:10]}, in MLNB_TOKEN.")
    print(f"Commit {tokens.FOLDER}/{token.id}.json, which holds its digest only.")
    return 0


def _tokens_list(options: argparse.Namespace) -> int:
    import datetime

    from mlnb import people
    from mlnb.people import tokens
    from mlnb.project import find

    project = find()
    people.admit(project, "tokens list")
    now = datetime.datetime.now(datetime.UTC)
    found = tokens.known_tokens(project)
    for token in found:
        told = token.fault(now) or f"counts until {token.expires[:10]}"
        print(f"{token.id}  {token.person:<24}  {told}")
    if not found:
        print("no token yet; `mlnb tokens new PERSON` makes one")
    return 0


def _tokens_revoke(options: argparse.Namespace) -> int:
    import datetime

    from mlnb import people
    from mlnb.people import tokens
    from mlnb.project import find

    project = find()
    people.admit(project, "tokens revoke")
    token = tokens.revoke(project, options.id, now=datetime.datetime.now(datetime.UTC))
    print(f"{token.id} of {token.person} counts no more; commit {tokens.FOLDER}/{token.id}.json")
    return 0


def _actions(add: Add, name: str, summary: str) -> Add:
    """Add a command that has actions, and return what adds them."""
    made = add(name, None, summary)
    actions = made.add_subparsers(metavar="ACTION", required=True)

    def add_action(action: str, command: Any, summary: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(
            action, help=summary, description=summary
        )
        parser.set_defaults(command=command)
        return parser

    return add_action


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 3650:
        raise argparse.ArgumentTypeError(f"must be 1 to 3650, not {text!r}")
    return int(text)
