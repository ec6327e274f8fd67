"Limits for one connection: a head without an end, a body that continues, a client that stalls."

import asyncio
import http.client
import json
import signal
import time

import psutil
import pytest
import uvicorn
from clients import ONE_STORE, post, run_application, send_until_closed
from releases import make_release
from uvicorn.server import ServerState

from brewcast.serving import connections
from brewcast.serving.connections import MAX_BYTES_AFTER_ANSWER, MAX_HEAD_BYTES, LimitedConnection

POST = b"POST /forecast HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
ENDLESS = {  # what is sent first, and what is then sent again and again
    "a header's value": (b"GET / HTTP/1.1\r\nx: ", b"a" * 1000),
    "a header's name": (b"GET / HTTP/1.1\r\n", b"a" * 1000),
    "headers": (b"GET / HTTP/1.1\r\n", b"some: header\r\n" * 100),
    "an address": (b"GET /", b"a" * 1000),
    "blank lines": (b"", b"\r\n" * 500),
    "a trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nx: ", b"a" * 1000),
    "a chunk's extension": (CHUNKED + b"5;a=", b"a" * 1000),
    "a head after a request": (b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nx: ", b"a" * 1000),
    "requests whose answers nobody reads": (b"", b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n" * 30),
    "a body": (CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n"),
    "a body to no page": (CHUNKED.replace(b"/forecast", b"/nowhere"), b"10000\r\n" + b" " * 65536 + b"\r\n"),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    "The service in its own process."
    folder = tmp_path_factory.mktemp("service")
    with run_application(make_release(folder).folder, folder) as service:
        yield service


@pytest.mark.parametrize("begin, piece", ENDLESS.values(), ids=ENDLESS)
def test_endless_input_is_cut_off_and_uses_no_memory(service, begin, piece):
    # given the service's memory after a request
    assert post(service.port, ONE_STORE)[0] == 200
    before = psutil.Process(service.process.pid).memory_info().rss
    # when clients send without an end, in small and in large pieces
    for size in (1, 50):
        assert send_until_closed(service.port, begin, piece * size) is not None, "64 MB went through"
    # then other clients get answers, and what was sent is not in memory
    assert post(service.port, ONE_STORE)[0] == 200
    assert psutil.Process(service.process.pid).memory_info().rss - before < 32_000_000


# --- one connection without a network


class Wire(asyncio.Transport):
    "A transport that collects what is written and sends nothing."

    def __init__(self):
        super().__init__()
        self.written, self.closed, self.unsent = b"", False, 0

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True

    abort = close

    def is_closing(self):
        return self.closed

    def get_write_buffer_size(self):
        return self.unsent

    def get_protocol(self):
        return self.protocol

    def pause_reading(self):
        pass

    resume_reading = pause_reading


async def never_answer(scope, receive, send):
    await asyncio.Event().wait()


async def answer_at_once(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def connect(app, others=0) -> tuple[LimitedConnection, Wire]:
    "A connection to an application, beside `others` other connections."
    wire, state = Wire(), ServerState()
    state.connections.update(range(others))
    wire.protocol = LimitedConnection(uvicorn.Config(app, log_config=None), state, {})
    wire.protocol.connection_made(wire)
    return wire.protocol, wire


def head(size: int) -> bytes:
    "A complete head of `size` bytes, counted as the limit does: address, names, values, and four for each header."
    text = b"GET / HTTP/1.1\r\nx: %s\r\n\r\n"
    return text % (b"a" * (size - 1 - 1 - 4))


async def _limits():
    # a head of the maximum length is a request
    connection, wire = connect(never_answer)
    connection.data_received(head(MAX_HEAD_BYTES))
    assert connection.heads == 1 and not wire.closed and not wire.written
    # one byte more, in one piece: the answer is JSON that names the field, and the connection closes
    connection, wire = connect(never_answer)
    connection.data_received(head(MAX_HEAD_BYTES + 1))
    assert wire.closed and connection.cycle is None
    line, _, body = wire.written.partition(b"\r\n")
    assert line == b"HTTP/1.1 431 Request Header Fields Too Large"
    detail = json.loads(body.split(b"\r\n\r\n")[1])["detail"]
    assert detail == [
        {"field": "headers", "message": f"the request's line and headers are longer than {MAX_HEAD_BYTES} bytes"}
    ]
    # a long body in one piece with its head: the head is not too long
    connection, wire = connect(never_answer)
    body = b" " * 60_000
    connection.data_received(POST + b"content-length: 60000\r\n\r\n" + body)
    assert connection.heads == 1 and not wire.closed
    # a body in chunks of one byte, whose frames together are longer than a head may be
    connection, wire = connect(never_answer)
    connection.data_received(CHUNKED)
    for _ in range(100):
        connection.data_received(b"1\r\na\r\n" * 100)
    assert not wire.closed
    # a head that is too long, behind a request in work: nothing is written before that answer
    connection, wire = connect(never_answer)
    connection.data_received(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nx: ")
    connection.data_received(b"a" * (MAX_HEAD_BYTES + 1))
    assert wire.closed and not wire.written
    # bytes that are not HTTP get uvicorn's plain 400
    connection, wire = connect(never_answer)
    connection.data_received(b"\x16\x03\x01")
    assert wire.closed and wire.written.startswith(b"HTTP/1.1 400 ")


def test_the_limit_of_a_head_is_exact_and_bodies_do_not_count():
    asyncio.run(_limits())


async def _surplus():
    connection, wire = connect(answer_at_once)
    connection.data_received(CHUNKED)
    while not wire.written.endswith(b"ok"):
        await asyncio.sleep(0)
    # the service reads some more of the body, so that the client gets to read the answer
    frame = b"10000\r\n" + b" " * 65536 + b"\r\n"
    frames = 0
    while not wire.closed:
        connection.data_received(frame)
        frames += 1
    assert frames == MAX_BYTES_AFTER_ANSWER // 65536 + 1


def test_a_body_that_continues_after_its_answer_is_read_up_to_the_limit():
    asyncio.run(_surplus())


STALLED = {  # bytes received, the application, unsent bytes at two checks, and whether the connection is closed
    "nothing": (b"", answer_at_once, [0, 0], True),
    "half a head": (b"GET / HT", answer_at_once, [0, 0], True),
    "a request and half a head": (
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET ",
        answer_at_once,
        [0, 0],
        False,
    ),  # uvicorn's keep-alive limits it
    "half a body, answered": (POST + b"content-length: 9\r\n\r\n{", answer_at_once, [0, 0], True),
    "half a body that the application waits for": (POST + b"content-length: 9\r\n\r\n{", never_answer, [0, 0], False),
    "a request": (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", answer_at_once, [0, 0], False),
    "a request that takes long": (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", never_answer, [0, 0], False),
    "an answer that the client does not read": (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", answer_at_once, [9, 9], True),
    "an answer that the client reads slowly": (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", answer_at_once, [9, 8], False),
}


@pytest.mark.parametrize("received, app, unsent, closed", STALLED.values(), ids=STALLED)
def test_a_connection_without_progress_at_two_checks_is_closed(received, app, unsent, closed):
    async def check_twice():
        connection, wire = connect(app)
        if received:
            connection.data_received(received)
        for _ in range(5):
            await asyncio.sleep(0)
        for wire.unsent in unsent:
            assert not wire.closed
            connection.stall.check()
        return wire.closed

    assert asyncio.run(check_twice()) == closed


def test_checks_repeat_by_themselves(monkeypatch):
    # given a client that stalls, and checks in quick succession
    monkeypatch.setattr(connections, "STALL_CHECK_SECONDS", 0.001)

    async def stalled():
        connection, wire = connect(answer_at_once)
        connection.data_received(b"GET ")
        while not wire.closed:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(stalled(), 60))


def test_one_connection_too_many_gets_503_and_the_others_stay():
    async def many():
        return connect(answer_at_once, others=LimitedConnection.limit - 1)[1], connect(
            answer_at_once, others=LimitedConnection.limit
        )[1]

    last, one_more = asyncio.run(many())
    assert not last.closed and not last.written
    assert one_more.closed and one_more.written.startswith(b"HTTP/1.1 503 ")


def test_a_request_that_arrives_after_the_stop_signal_is_answered_and_its_connection_is_then_closed(tmp_path):
    # given a service with three kept connections that are idle
    with run_application(make_release(tmp_path).folder, tmp_path) as service:
        kept = [http.client.HTTPConnection("127.0.0.1", service.port, timeout=20) for _ in range(3)]
        for connection in kept:
            connection.request("GET", "/livez")
            assert connection.getresponse().read() and connection.sock
        # when it is told to stop, and two clients do not know it yet
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        for connection in kept[:2]:
            connection.request("POST", "/forecast", json.dumps(ONE_STORE), {"content-type": "application/json"})
            response = connection.getresponse()
            # then they get their answer, with the announcement that it was the last one
            assert response.status == 200 and response.getheader("connection") == "close"
        # and the process ends soon, although a client keeps its connection
        service.process.wait(timeout=5)
        assert kept[2].sock.recv(1) == b""
