"""The service in a real systemd: installed, restarted under load, killed, hung, in a crash loop."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from systemd_machine import CODE, SystemdMachine, booted, why_not
from tiny import write_llama
from weights import import_gguf

pytestmark = [pytest.mark.contract, pytest.mark.timeout(300)]

PATIENCE_S = 60.0
UNIT = "/etc/systemd/system/outrider.service"
DROP_IN = f"{UNIT}.d/test.conf"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdMachine]:
    if why := why_not():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("machine")
    root = folder / "code/store"
    import_gguf(root, "tiny", write_llama(folder / "t.gguf", context=2048))
    try:
        with booted(folder) as machine:
            yield machine
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
        return number


@pytest.fixture
def url(machine: SystemdMachine, port: int) -> Iterator[str]:
    """The service with a socket, and with the store of the tests; removed afterwards."""
    done = machine.outrider("service", "install", "--socket", "--port", str(port))
    assert done.returncode == 0, (done.stderr, machine.log())
    fill = f"cp -r {CODE}/store/. /var/lib/outrider/models && chown -R outrider: /var/lib/outrider"
    machine.run("sh", "-c", fill)
    yield f"http://127.0.0.1:{port}"
    machine.outrider("service", "uninstall")
    machine.run("sh", "-c", f"rm -rf /etc/outrider.env {UNIT}.d; systemctl daemon-reload")


def drop_in(machine: SystemdMachine, *lines: str) -> None:
    text = "\n".join(("[Service]", *lines, ""))
    script = f'mkdir -p "$(dirname {DROP_IN})"; printf %s "$1" > {DROP_IN}; systemctl daemon-reload'
    machine.run("sh", "-c", script, "sh", text)


def ask(url: str, **options: int) -> int:
    """The status of a short request on a connection of its own."""
    with generate(url, {"num_predict": 1, **options}) as answer:
        answer.read()
        return int(answer.status)


def generate(url: str, options: dict[str, int]) -> HTTPResponse:
    body = {"model": "tiny", "prompt": "x", "options": options}
    request = urllib.request.Request(f"{url}/api/generate", json.dumps(body).encode())
    answer: HTTPResponse = urllib.request.urlopen(request, timeout=PATIENCE_S)
    return answer


def test_a_restart_refuses_no_connection_and_cuts_no_stream(
    machine: SystemdMachine, url: str
) -> None:
    assert ask(url) == 200
    machine.wait("StatusText", "1 model loaded, no request running")
    before = machine.show("MainPID")
    statuses: list[int] = []
    is_over = threading.Event()

    def ask_on_and_on() -> None:
        while not is_over.is_set():
            statuses.append(ask(url))

    with generate(url, {"num_predict": 1500, "num_ctx": 2048}) as stream:
        assert stream.readline()
        clients = [threading.Thread(target=ask_on_and_on) for _ in range(4)]
        for client in clients:
            client.start()
        machine.run("systemctl", "restart", "outrider.service")
        last = json.loads(stream.read().splitlines()[-1])
    assert (last["done"], last["done_reason"]) == (True, "length")
    assert machine.show("MainPID") != before
    seen = len(statuses)
    deadline_s = time.monotonic() + PATIENCE_S
    while len(statuses) < seen + 4 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    is_over.set()
    for client in clients:
        client.join(PATIENCE_S)
    assert len(statuses) >= seen + 4
    assert set(statuses) == {200}


def test_settings_change_by_a_reload(machine: SystemdMachine, url: str) -> None:
    before = machine.show("MainPID")
    machine.run("sh", "-c", "echo OUTRIDER_MAX_QUEUE=9 >> /etc/outrider.env")
    done = machine.outrider("service", "reload")
    assert done.returncode == 0, done.stderr
    deadline_s = time.monotonic() + PATIENCE_S
    while "applied: MAX_QUEUE" not in machine.log():
        assert time.monotonic() < deadline_s, machine.log()
        time.sleep(0.05)
    assert machine.show("MainPID") == before
    assert machine.show("ActiveState") == "active"
    assert ask(url) == 200


@pytest.mark.parametrize("signal", ["KILL", "SEGV"])
def test_a_killed_daemon_comes_back_and_connections_wait(
    machine: SystemdMachine, url: str, signal: str
) -> None:
    before = machine.show("MainPID")
    machine.run("kill", f"-{signal}", before)
    assert ask(url) == 200
    assert machine.show("MainPID") != before
    assert machine.show("NRestarts") == "1"


def test_a_daemon_that_hangs_is_ended_by_the_watchdog(machine: SystemdMachine, url: str) -> None:
    drop_in(machine, "WatchdogSec=2")
    machine.run("systemctl", "restart", "outrider.service")
    before = machine.show("MainPID")
    time.sleep(3)  # longer than the period: signs of life do come
    assert machine.show("MainPID") == before
    machine.run("kill", "-STOP", before)
    assert ask(url) == 200
    assert machine.show("MainPID") != before
    assert "result 'watchdog'" in machine.log()


def test_a_killed_runner_takes_nobody_along(machine: SystemdMachine, url: str) -> None:
    assert ask(url) == 200
    machine.wait("StatusText", "1 model loaded")
    before = machine.show("MainPID")
    machine.run("sh", "-c", f"kill -KILL $(cat /proc/{before}/task/{before}/children)")
    machine.wait("StatusText", "no model loaded")  # until then, the request would share its fate
    assert ask(url) == 200
    assert machine.show("MainPID") == before


def test_a_crash_loop_has_an_end(machine: SystemdMachine, url: str) -> None:
    drop_in(machine, "RestartSec=0", "Environment=OUTRIDER_ORIGINS=nonsense")
    machine.attempt("systemctl", "restart", "outrider.service")
    machine.wait("ActiveState", "failed")
    assert int(machine.show("NRestarts")) <= 5
    assert "origin 'nonsense' needs a scheme" in machine.log()
    done = machine.outrider("service", "status")
    assert done.returncode == 1
    assert "failed" in done.stdout
    with pytest.raises(OSError, match="refused"):
        ask(url)


def test_the_whole_service_in_words(machine: SystemdMachine, port: int) -> None:
    install = ("service", "install", "--port", str(port))
    done = machine.outrider(*install, OUTRIDER_KEEP_ALIVE="7m", HF_TOKEN="secret")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        f"Outrider serves on 127.0.0.1:{port}",
        "settings from the environment: OUTRIDER_KEEP_ALIVE, OUTRIDER_HOST",
        "to remove it: outrider service uninstall --system",
    ]
    again = machine.outrider(*install)
    assert again.returncode == 0, again.stderr
    assert "kept /etc/systemd/system/outrider.service" in again.stdout
    settings = machine.run("cat", "/etc/outrider.env")
    assert "OUTRIDER_KEEP_ALIVE=7m" in settings
    assert "secret" not in settings + machine.run("cat", UNIT)
    assert machine.run("stat", "-c", "%a %U:%G", "/etc/outrider.env") == "640 root:outrider\n"
    status = machine.outrider("service", "status")
    assert f"serving on 127.0.0.1:{port}; no model loaded" in status.stdout
    assert "Outrider is ready at" in machine.outrider("service", "logs").stdout
    exposure = machine.run("systemd-analyze", "security", "--threshold=30", "outrider.service")
    assert "Overall exposure level" in exposure
    assert machine.attempt("systemd-analyze", "verify", UNIT).stderr == ""
    gone = machine.outrider("service", "uninstall")
    assert gone.returncode == 0, gone.stderr
    assert machine.attempt("systemctl", "cat", "outrider.service").returncode != 0
    assert "there is no service to remove" in machine.outrider("service", "uninstall").stdout
    machine.run("rm", "/etc/outrider.env")  # a removal leaves it


class Ollama(BaseHTTPRequestHandler):
    """What answers as Ollama does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"version":"0.33.0"}')

    def log_message(self, *_args: object) -> None:
        pass


def test_models_in_a_home_directory_are_all_that_is_seen_of_it(
    machine: SystemdMachine, port: int
) -> None:
    root = "/home/me/my:models 100%"
    fill = f"mkdir -p '{root}' && cp -r {CODE}/store/. '{root}' && chmod 700 /home/me"
    machine.run("sh", "-c", fill)
    install = ("service", "install", "--port", str(port))
    missing = machine.outrider(*install, OLLAMA_MODELS=f"{root}/none")
    assert "there is no folder /home/me/my:models 100%/none" in missing.stderr
    done = machine.outrider(*install, OLLAMA_MODELS=root)
    assert done.returncode == 0, done.stderr
    machine.run("chown", "-R", "outrider:", root)
    machine.run("systemctl", "restart", "outrider.service")
    assert ask(f"http://127.0.0.1:{port}") == 200
    pid = machine.show("MainPID")
    assert machine.run("ls", f"/proc/{pid}/root/home/me") == "my:models 100%\n"
    needed = (Path(sys.base_prefix), Path(sys.prefix), Path(__file__).resolve())
    allowed = {path.parts[2] for path in needed if path.is_relative_to("/root")}
    assert set(machine.run("ls", "-A", f"/proc/{pid}/root/root").split()) <= allowed
    machine.outrider("service", "uninstall")
    machine.run("rm", "/etc/outrider.env")


@pytest.mark.parametrize("failure", ["port", "start", "setting", "linebreak"])
def test_an_installation_that_fails_leaves_nothing(
    machine: SystemdMachine, port: int, failure: str
) -> None:
    with HTTPServer(("127.0.0.1", 0), Ollama) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        port = server.server_port if failure == "port" else port
        env = {
            "port": {},
            "start": {"OUTRIDER_HOST": "192.0.2.1", "OUTRIDER_INSECURE_LISTEN": "1"},
            "setting": {"OUTRIDER_NUM_PARALLEL": "-1"},
            "linebreak": {"OUTRIDER_DEBUG": "1\n2"},
        }[failure]
        done = machine.outrider("service", "install", "--port", str(port), **env)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: "), done.stderr
    assert len(done.stderr.splitlines()) == 1
    files = (UNIT, "/etc/outrider.env", "/etc/sysusers.d/outrider.conf")
    assert machine.attempt("ls", *files).stdout == ""
    assert machine.attempt("systemctl", "cat", "outrider.service").returncode != 0
    if failure == "start":
        assert "cannot listen on 192.0.2.1" in done.stderr
    if failure == "port":
        assert f"127.0.0.1:{port} is taken by Ollama: stop it" in done.stderr


def test_a_users_service(machine: SystemdMachine, port: int) -> None:
    """systemd as a user's manager, without the session that a login would open."""
    env = {"XDG_RUNTIME_DIR": "/run/user/0", "XDG_CONFIG_HOME": "/root/.config"}
    machine.run("mkdir", "-p", "-m", "700", "/run/user/0")
    start = ("systemd-run", "--unit=manager", "-E", "XDG_RUNTIME_DIR=/run/user/0", "-p")
    machine.run(*start, "Delegate=yes", "-E", "HOME=/root", "/lib/systemd/systemd", "--user")
    deadline_s = time.monotonic() + PATIENCE_S
    while machine.attempt("systemctl", "--user", "is-system-running", env=env).returncode > 1:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    done = machine.outrider("service", "install", "--user", "--socket", "--port", str(port), **env)
    assert done.returncode == 0, (done.stderr, done.stdout)
    assert "loginctl enable-linger" in done.stdout
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/version") as answer:
        assert answer.status == 200
    assert machine.outrider("service", "status", "--user", **env).returncode == 0
    gone = machine.outrider("service", "uninstall", "--user", **env)
    assert gone.returncode == 0, gone.stderr
    machine.run("systemctl", "stop", "manager.service")
