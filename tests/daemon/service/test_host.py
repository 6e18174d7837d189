"""What a machine lacks for a service is said in one sentence each."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from outrider.daemon.service import host

pytestmark = pytest.mark.unit


def test_a_machine_with_systemd(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert host.why_no_systemd(tmp_path) == ""


def test_machines_without(tmp_path: Path) -> None:
    assert host.why_no_systemd(tmp_path) == host.FOR_OTHERS
    (tmp_path / ".dockerenv").touch()
    assert host.why_no_systemd(tmp_path) == host.FOR_CONTAINERS
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/version").write_text("Linux version 5.15 (Microsoft@Microsoft.com)")
    assert host.why_no_systemd(tmp_path) == host.FOR_WSL


def test_rights() -> None:
    session = {"XDG_RUNTIME_DIR": "/run/user/1"}
    assert host.why_no_rights(is_system=True, uid=0, environ={}) == ""
    assert "sudo " in host.why_no_rights(is_system=True, uid=1, environ=session)
    assert host.why_no_rights(is_system=False, uid=1, environ=session) == ""


def test_folders_within_others_are_left_out() -> None:
    folders = {Path(name) for name in ("/a", "/a/b/c", "/ab", "/d/e")}
    assert host.outermost(folders) == (Path("/a"), Path("/ab"), Path("/d/e"))


class Answer(BaseHTTPRequestHandler):
    ours = False

    def do_GET(self) -> None:
        self.send_response(200)
        if self.ours:
            self.send_header("Outrider-Version", "1")
        self.end_headers()
        self.wfile.write(b'{"version":"0.33.0"}')

    def log_message(self, *_args: object) -> None:
        pass


@pytest.mark.parametrize(("ours", "name"), [(False, "Ollama"), (True, "Outrider")])
def test_who_has_the_port(monkeypatch: pytest.MonkeyPatch, ours: bool, name: str) -> None:
    monkeypatch.setattr(Answer, "ours", ours)
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert host.who_listens("127.0.0.1", server.server_port) == name
        thread.join()


def test_a_port_that_is_free_or_has_another_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        bound.close()
    assert host.who_listens("127.0.0.1", port) == ""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        thread = threading.Thread(target=lambda: mute.accept()[0].close())
        thread.start()
        assert host.who_listens("127.0.0.1", mute.getsockname()[1]) == "another program"
        thread.join()
