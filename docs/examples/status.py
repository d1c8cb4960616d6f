#!/usr/bin/env python3
"""Starts a command in a network of its own and talks to it, with slirpctl's JSON and exit codes."""

import json
import subprocess
import sys
import urllib.request


class Error(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status  # 3: not supported here, 5: a port or the name is taken, 6: timed out, …


def slirpctl(command, *args):
    """Runs a command and returns what it prints as JSON; None if that is nothing."""
    done = subprocess.run(["slirpctl", command, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Error(done.returncode, done.stderr.strip())
    return json.loads(done.stdout) if done.stdout else None


def main():
    try:
        web = slirpctl("up", "--detach", "--json", "-p", "127.0.0.1::8000", "--wait-listen", "8000", "--", *sys.argv[1:])
    except Error as error:
        if error.status == 3:
            print("skipped:", error)
            return
        raise
    try:
        for port in web["ports"]:
            print(f"{web['name']}: port {port['hostPort']} leads to {port['guestIP']}:{port['guestPort']}")
        for forward in slirpctl("forward", "list", web["name"], "--json"):
            assert forward["id"] == web["ports"][0]["id"]
        print(urllib.request.urlopen(f"http://127.0.0.1:{web['ports'][0]['hostPort']}/", timeout=10).read().decode(), end="")
    finally:
        slirpctl("down", web["name"])


main()
