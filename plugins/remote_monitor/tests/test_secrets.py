"""No secret is shown, logged, saved or sent to anybody else."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hookloop_remote_monitor import RemoteMonitor
from hookloop_remote_monitor._event import Event
from hookloop_remote_monitor._sender import Client

import hookloop
from hookloop import CallbackList
from hookloop.callback import settings_of
from hookloop.errors import SettingError

SECRET = "s3cr3t"
Run = Callable[..., CallbackList]


def secretive(root: str, **settings: Any) -> RemoteMonitor:
    """A monitor with a secret wherever one can be."""
    return RemoteMonitor(
        root.replace("//", f"//me:{SECRET}@"),
        path=f"/hook/{SECRET}?token={SECRET}",
        headers={"Authorization": f"Bearer {SECRET}", "X-Key": SECRET},
        backoff=(0.001, 0.01),
        **settings,
    )


def fit(callbacks: CallbackList) -> None:
    callbacks.on_epoch_end(0, {})
    callbacks.on_epoch_end(1, {})
    callbacks.on_train_end()


def redirect(handler: Any) -> bool:
    handler.answer(307, Location=f"/elsewhere?token={SECRET}")
    return True


def fail(handler: Any) -> bool:
    handler.answer(500)
    return True


def drop(handler: Any) -> bool:
    handler.connection.shutdown(2)
    return True


def echo(handler: Any) -> bool:
    """Answer with a broken header, and tell what was sent."""
    handler.wfile.write(f"HTTP/1.1 403 {handler.path}\r\nbroken\r\nX: 1\r\n\r\n".encode())
    return True


@pytest.mark.reliability("F9")
@pytest.mark.parametrize("behave", [None, redirect, fail, drop, echo, "nobody", "unknown host"])
@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_a_secret_appears_nowhere(
    behave: Any,
    spooled: bool,
    server: Any,
    nobody: str,
    run: Run,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not in warnings, output, logs at their most detailed, repr, settings, state, or spool."""
    caplog.set_level(logging.DEBUG)
    server.behave = behave if callable(behave) else lambda handler: None
    root = {"nobody": nobody, "unknown host": "http://no.invalid"}.get(behave, server.root)
    patience = 5.0 if behave in (None, redirect, echo) else 0.1
    spool = tmp_path if spooled else None
    monitor = secretive(root, spool=spool, flush_timeout=patience)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        callbacks = run(monitor)
        for epoch in range(3):
            callbacks.on_epoch_end(epoch, {"loss": 0.5})
        if root == server.root:
            server.wait(lambda: server.requests)
        state = [repr(monitor), repr(monitor.state_dict()), repr(settings_of(monitor))]
        callbacks.on_train_end()
    if root == server.root:
        assert SECRET in server.requests[0].path
        assert server.requests[0].headers["Authorization"] == f"Bearer {SECRET}"
    texts = [*state, *(str(one.message) for one in warned), *capfd.readouterr(), caplog.text]
    texts += [path.read_text() for path in tmp_path.iterdir()]
    assert [text for text in texts if SECRET in text] == []
    assert behave is None or any("remote_monitor" in text for text in texts)


def test_other_threads_are_logged_as_before(
    server: Any, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the lines of the thread that sends are left out."""
    import requests

    caplog.set_level(logging.DEBUG)
    fit(run(secretive(server.root)))
    requests.get(f"{server.root}/mine", timeout=5)
    assert "/mine" in caplog.text
    assert "/hook" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"root": f"me:{SECRET}@host"}, "no event could be sent"),
        ({"root": f"http://me:{SECRET}@host:port"}, "no event could be sent"),
        ({"headers": {"X": f"{SECRET}\n"}}, "no event could be sent"),
    ],
    ids=str,
)
def test_an_error_shows_no_secret(settings: dict[str, Any], text: str, run: Run) -> None:
    """Nor does what it was raised from."""
    with pytest.raises(SettingError, match=text) as refused:
        run(RemoteMonitor(**settings))
    link: BaseException | None = refused.value
    while link is not None:
        assert SECRET not in str(link)
        link = link.__cause__ or link.__context__


def test_an_ill_typed_secret_is_not_repeated() -> None:
    """The error names the setting, not its value."""
    with pytest.raises(SettingError, match="headers='<secret>' is a str") as refused:
        hookloop.load("remote_monitor", headers=f"Bearer {SECRET}")
    assert SECRET not in str(refused.value)


@pytest.mark.reliability("F8")
def test_no_redirection_is_followed(server: Any, run: Run) -> None:
    """Neither to another host, which would get the credentials, nor to this one."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        there = f"http://127.0.0.1:{other.getsockname()[1]}/"
        server.once(lambda handler: handler.answer(307, Location=there))
        callbacks = run(secretive(server.root))
        with pytest.warns(RuntimeWarning, match="answered 307|1 events were refused"):
            fit(callbacks)
        with pytest.raises(BlockingIOError):
            other.accept()
    assert len(server.requests) == 2


def test_credentials_of_netrc_replace_no_header(
    server: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """requests would prefer them to an Authorization that was given."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fit(run(secretive(server.root)))
    assert server.requests[0].headers["Authorization"] == f"Bearer {SECRET}"


# -- on the way ---------------------------------------------------------------

EXPOSED = {
    "user of the address": {"root": f"http://me:{SECRET}@no.invalid"},
    "authorization": {"headers": {"authorization": SECRET}},
    "a key": {"headers": {"X-Api-Key": SECRET}},
}


@pytest.mark.reliability("F8")
@pytest.mark.parametrize("settings", EXPOSED.values(), ids=EXPOSED)
def test_credentials_that_travel_in_the_clear_are_warned_of(
    settings: dict[str, Any], run: Run
) -> None:
    """Once, when the run starts, without them."""
    with pytest.warns(RuntimeWarning, match="travel to http://no.invalid without enc") as warned:
        run(RemoteMonitor(**{"root": "http://no.invalid", "flush_timeout": 0.0, **settings}))
    assert [SECRET in str(one.message) for one in warned] == [False]


@pytest.mark.reliability("F8")
@pytest.mark.parametrize(
    ("root", "headers"),
    [
        ("https://no.invalid", {"Authorization": SECRET}),
        ("http://127.0.0.1:9", {"Authorization": SECRET}),
        ("http://localhost:9", {"Authorization": SECRET}),
        ("http://no.invalid", {"X-Run": "one"}),
    ],
)
def test_what_nobody_can_read_on_the_way_is_not_warned_of(
    root: str, headers: dict[str, str]
) -> None:
    """Encrypted, within this machine, or no credentials."""
    assert not Client(root, headers, 5.0).exposed


@pytest.mark.reliability("F11")
def test_a_proxy_of_the_environment_is_used(
    server: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everywhere in requests."""
    monkeypatch.setenv("http_proxy", server.root)
    monkeypatch.setenv("no_proxy", "")
    fit(run(RemoteMonitor("http://no.invalid")))
    assert [request.path for request in server.requests] == [
        "http://no.invalid/publish/epoch/end/"
    ] * 2


@pytest.mark.reliability("F11")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_what_is_for_this_machine_goes_through_no_proxy(
    server: Any, nobody: str, run: Run, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """requests would ask the proxy, which has another idea of what this machine is."""
    monkeypatch.setenv("http_proxy", nobody)
    monkeypatch.setenv("no_proxy", "example.org")
    fit(run(RemoteMonitor(server.root.replace("127.0.0.1", host))))
    assert [request.path for request in server.requests] == ["/publish/epoch/end/"] * 2


# -- TLS ---------------------------------------------------------------


@pytest.fixture
def secure(server: Any, tmp_path: Path) -> str:
    """The address of a server with a certificate that nobody has signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=me"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    command = [openssl, *made.split(), *names, "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    certificate.write_text(certificate.read_text() + key.read_text())
    server.stop()
    server.certificate = certificate
    server.start()
    return server.root.replace("http:", "https:")


@pytest.mark.reliability("F8")
def test_a_certificate_that_nobody_signed_is_refused(secure: str, server: Any) -> None:
    """The reason is said; no byte of the event is sent; it is kept."""
    client = Client(f"{secure}/{SECRET}", {"Authorization": SECRET}, 5.0)
    with client.session:
        answer = client.post(Event("key", "text/plain", SECRET))
    assert "CERTIFICATE_VERIFY_FAILED" in str(answer.problem)
    assert SECRET not in str(answer.problem)
    assert answer.again
    assert server.requests == []


def test_a_file_of_certificates_can_be_trusted(
    secure: str, server: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment names it, as for all of requests."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
    fit(run(RemoteMonitor(secure)))
    assert len(server.requests) == 2
