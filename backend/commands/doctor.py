"""`edgetam doctor`: check everything, and say what to do."""

from __future__ import annotations

import argparse
import json
import os
import sys

_DESCRIPTION = """\
Check everything that the server needs: packages, threads, weights and device,
video decoders, Redis (its password, whether it keeps jobs, its clock), disks,
port, who may enter, folders, Label Studio and its token, and whether Label
Studio reaches this server. One line each, with what to do about it.
It reads the same environment as `edgetam serve`. No secret is printed."""

_EPILOG = """\
examples:
  edgetam doctor
  LABEL_STUDIO_URL=http://localhost:8080 LABEL_STUDIO_API_KEY=... edgetam doctor
Exit codes: 0 nothing failed (warnings included), 1 something did."""

MARKS = {"ok": " ok ", "warn": "warn", "fail": "FAIL"}


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `doctor` to the command line."""
    parser = verbs.add_parser(
        "doctor",
        help="check everything that the server needs, and say what to do",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Check, and print."""
    from dataclasses import asdict

    from backend.doctor import examine

    checks = examine(os.environ)
    good = all(check.state != "fail" for check in checks)
    if args.json:
        document = {"ok": good, "checks": [asdict(check) for check in checks]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 0 if good else 1
    for check in checks:
        sys.stdout.write(f"[{MARKS[check.state]}] {check.name}: {' '.join(check.found.split())}\n")
        if check.cure:
            sys.stdout.write(f"       → {check.cure}\n")
    return 0 if good else 1
