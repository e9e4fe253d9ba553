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
