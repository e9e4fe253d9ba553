"""Workers that are there before their scheduler."""

import signal
import socket
import time

import pytest

both = pytest.mark.parametrize("nanny", [True, False], ids=["nanny", "no-nanny"])
#: Seconds after which Dask itself gives up looking for a scheduler.
CONNECT = 1
GIVEN_UP = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": f"{CONNECT}s"}


@pytest.fixture
def port():
    """A port where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@both
def test_a_worker_waits_for_its_scheduler(bare, port, nanny):
    bare.address = f"tcp://127.0.0.1:{port}"
    worker = bare.launch_worker("early", nanny=nanny, **GIVEN_UP)
    worker.find("(Run preload setup)")
    time.sleep(4 * CONNECT)
    scheduler = bare.start_scheduler(port=port)
    bare.wait_until_joined("early", worker)
    with bare.client() as client:
        assert client.submit(sum, range(100)).result(timeout=60) == 4950
    assert "closed before handshake" not in scheduler.output(), "looking for a scheduler leaves no traces"


@both
def test_a_worker_that_waits_for_its_scheduler_can_be_stopped(bare, port, nanny):
    bare.address = f"tcp://127.0.0.1:{port}"
    worker = bare.launch_worker("early", nanny=nanny, **GIVEN_UP)
    worker.find("(Run preload setup)")
    time.sleep(CONNECT)
    worker.signal(signal.SIGTERM)
    _, seconds = worker.wait()
    assert seconds < 15, worker.output()


def test_a_name_without_address_is_waited_for_too(bare):
    bare.address = "tcp://no-such-scheduler.invalid:8786"
    worker = bare.launch_worker("early", nanny=True, **GIVEN_UP)
    worker.find("(Run preload setup)")
    time.sleep(4 * CONNECT)
    assert worker.popen.poll() is None, worker.output()


#: A name with two addresses, at the first of which nobody listens, as that of a dual-stack Service may be.
TWO_ADDRESSES = """
import socket
real = socket.getaddrinfo
def getaddrinfo(host, port, *args, **kwargs):
    if host != "two-addresses.invalid":
        return real(host, port, *args, **kwargs)
    stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    return [(*stream, ("127.0.0.9", port)), (*stream, ("127.0.0.1", port))]
socket.getaddrinfo = getaddrinfo
"""


@both
def test_every_address_of_the_schedulers_name_is_tried(bare, port, nanny, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(TWO_ADDRESSES)
    bare.start_scheduler(port=port)
    listening, bare.address = bare.address, f"tcp://two-addresses.invalid:{port}"
    worker = bare.launch_worker("late", nanny=nanny, PYTHONPATH=tmp_path, **GIVEN_UP)
    bare.address = listening
    bare.wait_until_joined("late", worker)
