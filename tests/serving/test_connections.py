"What one connection may cost: a head without an end, a body that goes on, a client that stalls."

import asyncio
import json

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
ENDLESS = {  # how it begins, and what comes then for ever
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
    "The service as a process of its own."
    folder = tmp_path_factory.mktemp("service")
    with run_application(make_release(folder).folder, folder) as service:
        yield service


@pytest.mark.parametrize("begin, piece", ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_cut_off_and_costs_no_memory(service, begin, piece):
    # given the service's memory when it has worked
    assert post(service.port, ONE_STORE)[0] == 200
    before = psutil.Process(service.process.pid).memory_info().rss
    # when clients send without an end, in large pieces and in small ones
    for size in (1, 50):
        assert send_until_closed(service.port, begin, piece * size) is not None, "64 MB went through"
    # then others are answered, and what was sent is not kept
    assert post(service.port, ONE_STORE)[0] == 200
    assert psutil.Process(service.process.pid).memory_info().rss - before < 32_000_000


# --- a connection alone, to the byte


class Wire(asyncio.Transport):
    "What a connection writes, never sent."

    def __init__(self):
        super().__init__()
        self.said, self.closed, self.unsent = b"", False, 0

    def write(self, data):
        self.said += data

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


async def no_answer(scope, receive, send):
    await asyncio.Event().wait()


async def at_once(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def connected(app, among=0) -> tuple[LimitedConnection, Wire]:
    "A connection to an application, beside others."
    wire, state = Wire(), ServerState()
    state.connections.update(range(among))
    wire.protocol = LimitedConnection(uvicorn.Config(app, log_config=None), state, {})
    wire.protocol.connection_made(wire)
    return wire.protocol, wire


def head(size: int) -> bytes:
    "A whole head of so many bytes, counted as the limit does: address, names, values and four for each header."
    text = b"GET / HTTP/1.1\r\nx: %s\r\n\r\n"
    return text % (b"a" * (size - 1 - 1 - 4))


async def _limits():
    # given a head that is as long as it may be: it is a request
    connection, wire = connected(no_answer)
    connection.data_received(head(MAX_HEAD_BYTES))
    assert connection.heads == 1 and not wire.closed and not wire.said
    # given one byte more, in one piece: it is answered in JSON that names the field, and closed
    connection, wire = connected(no_answer)
    connection.data_received(head(MAX_HEAD_BYTES + 1))
    assert wire.closed and connection.cycle is None
    line, _, body = wire.said.partition(b"\r\n")
    assert line == b"HTTP/1.1 431 Request Header Fields Too Large"
    detail = json.loads(body.split(b"\r\n\r\n")[1])["detail"]
    assert detail == [
        {"field": "headers", "message": f"the request's line and headers are longer than {MAX_HEAD_BYTES} bytes"}
    ]
    # given a body that comes with its head in one piece: what is long is not the head
    connection, wire = connected(no_answer)
    body = b" " * 60_000
    connection.data_received(POST + b"content-length: 60000\r\n\r\n" + body)
    assert connection.heads == 1 and not wire.closed
    # given a body in chunks of a byte, of which the frames are longer than a head may be
    connection, wire = connected(no_answer)
    connection.data_received(CHUNKED)
    for _ in range(100):
        connection.data_received(b"1\r\na\r\n" * 100)
    assert not wire.closed
    # given a request that is being answered, and a long head behind it: nothing is said in the answer's place
    connection, wire = connected(no_answer)
    connection.data_received(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nx: ")
    connection.data_received(b"a" * (MAX_HEAD_BYTES + 1))
    assert wire.closed and not wire.said
    # given what is no HTTP: the plain 400 of before
    connection, wire = connected(no_answer)
    connection.data_received(b"\x16\x03\x01")
    assert wire.closed and wire.said.startswith(b"HTTP/1.1 400 ")


def test_a_head_has_a_limit_to_the_byte_and_bodies_do_not_count():
    asyncio.run(_limits())


async def _surplus():
    connection, wire = connected(at_once)
    connection.data_received(CHUNKED)
    while not wire.said.endswith(b"ok"):
        await asyncio.sleep(0)
    # a body that goes on after its answer is read for a while, so that the client may come to it
    frame = b"10000\r\n" + b" " * 65536 + b"\r\n"
    frames = 0
    while not wire.closed:
        connection.data_received(frame)
        frames += 1
    assert frames == MAX_BYTES_AFTER_ANSWER // 65536 + 1


def test_of_a_body_that_goes_on_after_its_answer_so_much_is_read_and_no_more():
    asyncio.run(_surplus())


STALLED = {  # what came, whether an application answers, what lies unsent at two looks, and whether it is closed
    "nothing": (b"", at_once, [0, 0], True),
    "half a head": (b"GET / HT", at_once, [0, 0], True),
    "a request, and half a head": (b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET ", at_once, [0, 0], False),  # keep-alive's
    "half a body, answered": (POST + b"content-length: 9\r\n\r\n{", at_once, [0, 0], True),
    "half a body, which the application awaits": (POST + b"content-length: 9\r\n\r\n{", no_answer, [0, 0], False),
    "a request": (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", at_once, [0, 0], False),
    "a request that takes long": (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", no_answer, [0, 0], False),
    "an answer that is not taken": (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", at_once, [9, 9], True),
    "an answer that is taken slowly": (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", at_once, [9, 8], False),
}


@pytest.mark.parametrize("came, app, unsent, closed", STALLED.values(), ids=STALLED)
def test_a_connection_that_is_stuck_at_two_looks_is_closed(came, app, unsent, closed):
    async def looked():
        connection, wire = connected(app)
        connection.data_received(came) if came else None
        for _ in range(5):
            await asyncio.sleep(0)
        for wire.unsent in unsent:
            assert not wire.closed
            connection.check_stalled()
        return wire.closed

    assert asyncio.run(looked()) == closed


def test_looks_go_on_by_themselves(monkeypatch):
    # given a client that stalls, and no patience
    monkeypatch.setattr(connections, "STALL_CHECK_SECONDS", 0.001)

    async def stalled():
        connection, wire = connected(at_once)
        connection.data_received(b"GET ")
        while not wire.closed:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(stalled(), 60))


def test_one_connection_too_many_is_told_so_and_the_others_stay():
    async def many():
        return connected(at_once, among=LimitedConnection.limit - 1)[1], connected(
            at_once, among=LimitedConnection.limit
        )[1]

    last, one_more = asyncio.run(many())
    assert not last.closed and not last.said
    assert one_more.closed and one_more.said.startswith(b"HTTP/1.1 503 ")
