"""The page's server over HTTP: who may ask, what is refused in which words, and how jobs go."""

import io
import json
import re
import socket
import threading
import time
import zipfile
from contextlib import ExitStack, closing

import httpx
import numpy as np
import pytest
from web_server import (
    SCRATCH,
    events_of,
    opened,
    order,
    photograph,
    pixels_of,
    png,
    serving,
)

from repaint_jax.web import app, events, jobs, reading
from repaint_jax.web.security import is_served
from repaint_jax.web.strokes import hole_of

# The command leaves this to the page, which tells `enlarged`.
pytestmark = pytest.mark.filterwarnings("ignore:the model's")

ME, YOU = "0" * 32, "1" * 32


@pytest.fixture(scope="module")
def running():
    with serving() as served:
        yield served.wait_until_ready()


@pytest.fixture
def server(running):
    running.gate.open, running.gate.steps = True, 0
    yield running
    running.gate.open = True
    deadline = time.monotonic() + 10
    while running.worker._running or running.worker._waiting:
        assert time.monotonic() < deadline, "a job is left"
        time.sleep(0.01)


@pytest.fixture
def me(server):
    with server.client(ME) as client:
        yield client


@pytest.fixture
def you(server):
    with server.client(YOU) as client:
        yield client


def is_refused(answer, status, words):
    assert answer.status_code == status, answer.text
    assert re.search(words, answer.json()["error"]), answer.text
    assert "\n" not in answer.json()["error"]


# ---------------------------------------------------------------- who may ask


@pytest.mark.parametrize("path", ["/", "/api/status"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:7860", "", "a@127.0.0.1"])
def test_a_foreign_host_is_refused(me, path, host):
    is_refused(me.get(path, headers={"host": host}), 400, "another name")


def test_two_hosts_are_refused(server):
    request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n"
    assert raw(server, request.encode()).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("path", ["/", "/api/status"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://"])
def test_a_foreign_origin_is_refused(me, path, origin):
    is_refused(me.get(path, headers={"origin": origin}), 403, "own page")


def test_the_pages_own_origin_is_served(server, me):
    assert me.get("/api/status", headers={"origin": server.url}).status_code == 200
    local = server.url.replace("127.0.0.1", "localhost")
    hosted = {"host": local.removeprefix("http://"), "origin": local}
    assert me.get("/api/status", headers=hosted).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_may_link_to_the_page_but_not_ask(me, site):
    assert me.get("/", headers={"sec-fetch-site": site}).status_code == 200
    is_refused(me.get("/api/status", headers={"sec-fetch-site": site}), 403, "own page")


@pytest.mark.parametrize("header", [None, "", "0" * 31, "x" * 32, "0" * 33, "0" * 32 + "\u00e9"])
@pytest.mark.parametrize(("method", "path"), [
    ("GET", "/api/status"), ("POST", "/api/portrait"), ("POST", "/api/jobs"),
    ("DELETE", "/api/jobs/x"), ("GET", "/api/nothing"),
])  # fmt: skip
def test_a_request_without_the_pages_header_is_refused(server, method, path, header):
    headers = {} if header is None else {"x-repaint-client": header.encode("latin-1")}
    answer = httpx.request(method, server.url + path, headers=headers, trust_env=False)
    is_refused(answer, 403, "needs the header x-repaint-client")


@pytest.mark.parametrize("path", ["/", "/api/status", "/nothing", "/api/photos/x/file"])
def test_every_answer_forbids_the_page_all_but_its_own(me, path):
    headers = me.get(path).headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert "*" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("host", ["0.0.0.0", "mybox", "192.168.0.7"])
def test_elsewhere_than_here_a_token_is_needed(host):
    def load():
        waiting.wait(5)
        raise SystemExit

    waiting = threading.Event()
    with serving(load, host=host, token="secret") as served, served.client() as client:
        assert client.get("/").status_code == 200  # which has no secrets
        for given in (None, "", "Bearer", "Bearer secre", "Bearer s\u00e9cret"):
            headers = {} if given is None else {"authorization": given.encode("latin-1")}
            is_refused(client.get("/api/status", headers=headers), 401, "token is missing or wrong")
        answer = client.get("/api/status", headers={"authorization": "Bearer secret"})
        assert answer.json()["state"] == "loading"
        waiting.set()


def test_the_token_is_compared_in_constant_time(monkeypatch):
    from repaint_jax.web import security

    compared = []
    monkeypatch.setattr(
        security.hmac, "compare_digest", lambda *both: bool(compared.append(both)) or True
    )
    guard = security.Guard(None, host="0.0.0.0", token="secret")
    scope = {"type": "http", "headers": [(b"host", b"1.2.3.4"), (b"x-repaint-client", b"0" * 32)]}
    guard._check(security.Headers(scope=scope), "/api/status")
    assert compared == [(b"", b"secret")]


@pytest.mark.parametrize(("header", "host", "served"), [
    ("127.0.0.1:7860", "127.0.0.1", True), ("localhost", "127.0.0.1", True),
    ("[::1]:7860", "127.0.0.1", True), ("LOCALHOST:1", "::1", True),
    ("192.168.0.7", "127.0.0.1", False), ("0.0.0.0", "127.0.0.1", False),
    ("localhost.", "127.0.0.1", False), ("127.0.0.1:7860:1", "127.0.0.1", False),
    ("192.168.0.7:7860", "0.0.0.0", True), ("[fe80::1]:7860", "::", True),
    ("localhost:7860", "0.0.0.0", True), ("evil.example", "0.0.0.0", False),
    ("mybox:7860", "mybox", True), ("MyBox", "mybox", True), ("other", "mybox", False),
    (socket.gethostname(), "0.0.0.0", True), (socket.gethostname() + ".x", "0.0.0.0", False),
])  # fmt: skip
def test_a_name_that_dns_could_lead_here_is_none_of_the_servers(header, host, served):
    assert is_served(header, host) == served


@pytest.mark.parametrize("path", [
    "/../pyproject.toml", "/static/index.html", "/%2e%2e/app.py", "/app.py", "//etc/passwd",
    "/api/photos/..%2f..%2fx/file", "/api/photos/%2Fetc%2Fpasswd/file",
])  # fmt: skip
def test_no_path_leads_to_a_file(me, path):
    is_refused(me.get(path), 404, "nothing|no such picture")


def test_what_there_is_not_is_said_in_words(me):
    is_refused(me.get("/api/nothing"), 404, "the server has nothing")
    is_refused(me.get("/api/jobs"), 405, "the server has nothing for GET here")


# ---------------------------------------------------------------- what is sent


def test_a_file_of_100_megabytes_is_refused_and_the_answer_arrives(me):
    is_refused(me.post("/api/photos", content=bytes(100 << 20)), 413, "at most 64 MB")
    parts = (bytes(1 << 20) for _ in range(100))  # of a length that is not told
    is_refused(me.post("/api/photos", content=parts), 413, "at most 64 MB")


def test_of_a_file_that_is_far_too_large_nothing_is_read(server):
    head = (
        f"POST /api/photos HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Repaint-Client: {ME}\r\n"
        f"Content-Length: {1 << 40}\r\n\r\n"
    )
    assert b"413" in raw(server, head.encode() + bytes(1000)).splitlines()[0]


def test_a_mask_of_another_size_and_a_broken_picture_are_refused(me):
    photo = opened(me)
    small = png(np.zeros((10, 10), np.uint8))
    is_refused(me.post(f"/api/photos/{photo}/masks", content=small), 422, "the mask has 10 x 10")
    is_refused(me.post("/api/photos", content=b"junk"), 415, "no picture")
    broken = bytearray(png(photograph()))
    broken[len(broken) // 2] ^= 255
    is_refused(me.post("/api/photos", content=bytes(broken)), 422, "damaged")


def test_a_body_that_stops_in_the_middle_leaves_nothing_and_the_server_well(server, me):
    head = (
        f"POST /api/photos HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Repaint-Client: {ME}\r\n"
        "Content-Length: 1000\r\n\r\n"
    )
    for path in ("/api/photos", "/api/jobs"):
        raw(server, head.replace("/api/photos", path).encode() + png(photograph())[:500])
    assert me.get("/api/status").json()["state"] == "ready"
    assert opened(me)


def test_a_body_that_never_ends_is_given_up(server, monkeypatch):
    monkeypatch.setattr(reading, "_SECONDS", 0.2)
    head = (
        f"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Repaint-Client: {ME}\r\n"
        "Content-Length: 1000\r\n\r\n{"
    )
    assert b"408" in raw(server, head.encode(), shut=False).splitlines()[0]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(me, content):
    is_refused(me.post("/api/jobs", content=content), 400, "JSON")


@pytest.mark.parametrize(("changes", "status", "words"), [
    ({"photo": "0" * 32}, 404, "no such picture"), ({"photo": None}, 404, "no such picture"),
    ({"strokes": []}, 422, "nothing is painted"), ({"strokes": None}, 422, "must be a list"),
    ({"strokes": [{"kind": "mask", "id": "x"}]}, 404, "no such mask"),
    ({"method": "magic"}, 422, "method: expected one of repaint, .* not 'magic'"),
    ({"method": ["repaint"]}, 422, "method"), ({"quality": "best"}, 422, "quality.*draft, good"),
    ({"samples": 3}, 422, "samples: expected one of 1, 2, 4, 8"), ({"samples": True}, 422, "sam"),
    ({"samples": 1.5}, 422, "samples"), ({"seed": -1}, 422, "seed: expected a number from 0"),
    ({"seed": 2**32}, 422, "seed"), ({"seed": "7"}, 422, "seed"), ({"seed": None}, 422, "seed"),
    ({"margin": 1e9}, 422, "margin"), ({"margin": float("nan")}, 422, "margin"),
    ({"window": "centre"}, 422, "window: expected one of hole, whole"),
])  # fmt: skip
def test_a_job_that_cannot_be_is_refused(me, changes, status, words):
    asked = json.dumps({**order(opened(me)), **changes})
    is_refused(me.post("/api/jobs", content=asked), status, words)


def test_a_view_of_no_numbers_is_refused(me):
    photo = opened(me)
    for to in ("", "x", "-1", "1.5", "99999999", "\u0663"):
        query = {"left": 0, "top": 0, "width": 9, "height": 9, "to": to}
        is_refused(me.get(f"/api/photos/{photo}/view", params=query), 422, "to: a whole number")


def raw(server, request, *, shut=True):
    """What is answered to these bytes, after which nothing comes."""
    host, port = server.url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=10)) as connection:
        connection.sendall(request)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        else:
            return connection.recv(1 << 16)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


# ---------------------------------------------------------------- filling


def test_the_status_tells_what_there_is_to_choose(me):
    status = me.get("/api/status").json()
    assert status["model"] == {"shape": [16, 16], "channels": 3}
    method, quality = status["default"]
    assert quality in status["methods"][method]["qualities"]
    assert set(status["methods"]) > {"repaint", "ddnm", "mmps"}
    for each in status["methods"].values():
        calls = list(each["qualities"].values())
        assert calls == sorted(calls)
        assert each["about"]
        assert all(seconds > 0 for seconds in each["seconds"].values())
    assert status["limits"] == {"bytes": 64 << 20, "pixels": 64_000_000}


def test_the_page_is_told_how_far_the_model_is():
    loading = threading.Event()

    def load():
        from web_server import paced_pipeline

        loading.wait(5)
        return paced_pipeline(), None

    with serving(load) as served, served.client() as client:
        served.gate.open = False
        assert client.get("/api/status").json()["state"] == "loading"
        assert "model" not in client.get("/api/status").json()
        threading.Timer(0.2, loading.set).start()
        photo = opened(client)  # which waits for the model's number of channels
        assert client.get("/api/status").json()["state"] == "warming up"
        with client.stream("POST", "/api/jobs", json=order(photo)) as response:
            told = events_of(response)
            assert next(told)[0] == "job"
            assert next(told) == ("waiting", {"place": 0, "state": "warming up"})
            served.gate.open = True
            assert list(told)[-1][0] == "done"
        assert client.get("/api/status").json()["state"] == "ready"


def test_a_job_tells_of_itself_in_order(me):
    pixels = photograph()
    photo = opened(me, pixels)
    with me.stream("POST", "/api/jobs", json=order(photo, samples=2)) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        told = list(events_of(response))
    kinds = [kind for kind, _ in told]
    assert kinds[0] == "job"
    assert re.fullmatch("[0-9a-f]{32}", told[0][1]["id"])
    assert kinds[-1] == "done"
    rank = ["job", "waiting", "preparing", "progress", "done"]
    assert [rank.index(kind) for kind in kinds] == sorted(rank.index(kind) for kind in kinds)
    seen = [data for kind, data in told if kind == "progress"]
    assert seen
    calls = [data["calls"] for data in seen]
    assert calls == sorted(calls)
    assert calls[-1] <= seen[0]["total"] == 100  # two windows
    for data in seen:
        assert len(data["previews"]) in (0, 2)  # at the end there are the pictures
        assert data["seconds_left"] >= 0
        assert data["enlarged"] == data["window"]["height"] / 16
    done = told[-1][1]
    assert len(done["photos"]) == 2
    hole = hole_of(SCRATCH, (40, 60))
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    box = {"top": rows[0], "left": columns[0], "height": np.ptp(rows) + 1,
           "width": np.ptp(columns) + 1}  # fmt: skip
    assert done["box"] == box


def filled(client, asked):
    """The last event of a job."""
    with client.stream("POST", "/api/jobs", json=asked) as response:
        assert response.status_code == 200, response.read()
        *_, last = events_of(response)
    return last


@pytest.mark.parametrize("window", ["hole", "whole"])
def test_bytes_outside_of_the_hole_are_those_of_the_photograph(me, window):
    pixels = photograph()
    kind, done = filled(me, order(opened(me, pixels), samples=2, window=window))
    assert kind == "done"
    hole = hole_of(SCRATCH, (40, 60))
    results = [pixels_of(me.get(f"/api/photos/{name}/file").content) for name in done["photos"]]
    for result in results:
        np.testing.assert_array_equal(result[~hole], pixels[~hole])
        assert (result[hole] != pixels[hole]).any(axis=1).mean() > 0.9
    assert not np.array_equal(*results)
    whole = me.post("/api/archive", json={"photos": done["photos"]}).content
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.namelist() == ["filled_01.png", "filled_02.png"]
        for name, result in zip(archive.namelist(), results, strict=True):
            np.testing.assert_array_equal(pixels_of(archive.read(name)), result)


def test_one_paints_on_with_a_result(me):
    pixels = photograph()
    _, first = filled(me, order(opened(me, pixels)))
    before = pixels_of(me.get(f"/api/photos/{first['photos'][0]}/file").content)
    dot = [{"kind": "rectangle", "from": [50, 30], "to": [55, 35]}]
    _, second = filled(me, order(first["photos"][0], dot))
    after = pixels_of(me.get(f"/api/photos/{second['photos'][0]}/file").content)
    hole = hole_of(dot, (40, 60))
    np.testing.assert_array_equal(after[~hole], before[~hole])
    assert not np.array_equal(after[hole], before[hole])


def test_the_same_seed_fills_alike_and_another_does_not(me):
    photo = opened(me)
    results = []
    for seed in (1, 1, 2):
        _, done = filled(me, order(photo, seed=seed))
        results.append(me.get(f"/api/photos/{done['photos'][0]}/file").content)
    assert results[0] == results[1] != results[2]


def test_an_uploaded_mask_is_a_stroke_and_strokes_become_a_mask(me):
    photo = opened(me)
    known = np.ones((40, 60), bool)
    known[3:9, 20:40] = False
    mask = me.post(f"/api/photos/{photo}/masks", content=png(known)).json()["id"]
    strokes = [*SCRATCH, {"kind": "mask", "id": mask}, {"kind": "invert"}]
    content = me.post(f"/api/photos/{photo}/mask", json={"strokes": strokes}).content
    np.testing.assert_array_equal(pixels_of(content), ~known)
    view = me.get(f"/api/masks/{mask}/view", params={"to": 60})
    np.testing.assert_array_equal(pixels_of(view.content)[..., 1] == 255, ~known)
    kind, _ = filled(me, order(photo, [{"kind": "mask", "id": mask}]))
    assert kind == "done"


def test_a_view_is_a_part_of_the_photograph(me):
    pixels = photograph()
    query = {"left": 10, "top": 5, "width": 20, "height": 15, "to": 999}
    answer = me.get(f"/api/photos/{opened(me, pixels)}/view", params=query)
    assert answer.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(pixels_of(answer.content), pixels[5:20, 10:30])


def test_the_portrait_is_in_the_box(me):
    answer = me.post("/api/portrait").json()
    assert answer["width"] == answer["height"] > 100
    assert me.get(f"/api/photos/{answer['id']}/file").status_code == 200


# ---------------------------------------------------------------- several people


def test_what_is_another_clients_is_not_found(server, me, you):
    mine = opened(me)
    mask = me.post(f"/api/photos/{mine}/masks", content=png(photograph()[..., 0])).json()["id"]
    box = {"left": 0, "top": 0, "width": 9, "height": 9, "to": 9}
    for answer in (
        you.get(f"/api/photos/{mine}/file"),
        you.get(f"/api/photos/{mine}/view", params=box),
        you.post(f"/api/photos/{mine}/masks", content=png(photograph()[..., 0])),
        you.post(f"/api/photos/{mine}/mask", json={"strokes": []}),
        you.post("/api/archive", json={"photos": [mine]}),
        you.post("/api/jobs", json=order(mine)),
        you.get(f"/api/masks/{mask}/view", params={"to": 9}),
        you.post("/api/jobs", json=order(opened(you), [{"kind": "mask", "id": mask}])),
    ):
        is_refused(answer, 404, "there is no such (picture|mask)")
    server.gate.open = False
    with me.stream("POST", "/api/jobs", json=order(mine)) as response:
        told = events_of(response)
        job = next(told)[1]["id"]
        is_refused(you.delete(f"/api/jobs/{job}"), 404, "no such job")
        with server.client(ME) as again:
            assert again.delete(f"/api/jobs/{job}").json() == {"state": "cancelled"}
        assert list(told)[-1] == ("cancelled", {})
    is_refused(me.delete(f"/api/jobs/{job}"), 404, "no such job")


def test_two_clients_are_served_in_turn_and_told_their_place(server, me, you):
    server.gate.open = False
    with me.stream("POST", "/api/jobs", json=order(opened(me))) as first:
        mine = events_of(first)
        while next(mine)[0] != "preparing":
            pass
        with you.stream("POST", "/api/jobs", json=order(opened(you))) as second:
            yours = events_of(second)
            assert next(yours)[0] == "job"
            assert next(yours) == ("waiting", {"place": 1, "state": "ready"})
            server.gate.let(3)
            assert next(mine)[0] == "progress"
            server.gate.open = True
            assert list(mine)[-1][0] == "done"
            assert list(yours)[-1][0] == "done"


def test_of_fifty_jobs_at_once_the_queue_takes_its_length(server, me):
    server.gate.open = False
    photo = opened(me)
    answers = []

    def ask():
        with (
            server.client(ME) as client,
            client.stream("POST", "/api/jobs", json=order(photo)) as response,
        ):
            if response.status_code != 200:
                response.read()
                answers.append((response.status_code, response.json()["error"]))
            else:
                *told, last = events_of(response)
                places = [data["place"] for kind, data in told if kind == "waiting"]
                answers.append((200, last[0], places))

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while len(answers) < 50 - jobs.MOST_WAITING - 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.gate.open = True
    for thread in threads:
        thread.join()
    refusals = [answer for answer in answers if answer[0] == 429]
    assert len(refusals) == 50 - jobs.MOST_WAITING - 1
    assert refusals[0][1] == "8 others are waiting already: try again in a minute"
    done = [answer for answer in answers if answer[0] == 200]
    assert {state for _, state, _ in done} == {"done"}
    for _, _, places in done:
        assert places == sorted(places, reverse=True)  # it only ever comes nearer
    assert max(max(places, default=0) for *_, places in done) == jobs.MOST_WAITING


def test_cancelled_it_is_over_for_its_owner_at_once_and_the_next_begins_within_a_second(
    server, me, you
):
    server.gate.open = False
    with (
        me.stream("POST", "/api/jobs", json=order(opened(me), quality="fine")) as first,
        you.stream("POST", "/api/jobs", json=order(opened(you))) as second,
    ):
        mine, yours = events_of(first), events_of(second)
        job = next(mine)[1]["id"]
        server.gate.let(5)
        while next(mine)[0] != "progress":
            pass
        began = time.monotonic()
        with server.client(ME) as client:
            client.delete(f"/api/jobs/{job}")
        assert list(mine)[-1][0] == "cancelled"  # though the model is in the middle of a step
        assert time.monotonic() - began < 1
        steps = server.gate.steps
        server.gate.open = True
        while next(yours)[0] in ("job", "waiting"):
            pass
        assert time.monotonic() - began < 1
        assert server.gate.steps <= steps + 60  # the second's, and not the 2410 of the first
        assert list(yours)[-1][0] == "done"


@pytest.mark.parametrize("place", ["running", "waiting"])
def test_a_client_that_goes_away_cancels_its_job(server, me, you, place):
    server.gate.open = False
    photo, other = opened(me), opened(you)
    with ExitStack() as open_streams:
        if place == "waiting":
            asked = you.stream("POST", "/api/jobs", json=order(other))
            yours = events_of(open_streams.enter_context(asked))
            while next(yours)[0] != "preparing":
                pass
        with server.client(ME) as gone, gone.stream("POST", "/api/jobs", json=order(photo)) as mine:
            told = events_of(mine)
            while next(told)[0] != ("preparing" if place == "running" else "waiting"):
                pass
            held = [*server.worker._waiting, server.worker._running]
            (job,) = [each for each in held if each and each.owner == ME]
            assert (job is server.worker._running) == (place == "running")
        deadline = time.monotonic() + 1
        while not job.over:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert job.state == "cancelled"
        assert job not in server.worker._waiting
        server.gate.open = True
        assert place == "running" or list(yours)[-1][0] == "done"


def test_a_job_that_fails_says_why_and_the_next_one_runs(server, me, monkeypatch, capfd):
    photo = opened(me)
    original = type(server.worker.pipeline).stream_photo

    def failing(fault):
        raise fault
        yield

    for fault, words in ((MemoryError("too\nlarge"), "too large"), (KeyError("x"), "terminal")):
        monkeypatch.setattr(
            type(server.worker.pipeline),
            "stream_photo",
            lambda *arguments, fault=fault, **more: failing(fault),
        )
        kind, data = filled(me, order(photo))
        assert kind == "failed"
        assert words in data["message"]
    monkeypatch.setattr(type(server.worker.pipeline), "stream_photo", original)
    assert filled(me, order(photo))[0] == "done"
    assert "KeyError" in capfd.readouterr().err  # a bug of ours is not swallowed


def test_when_a_job_is_over_nothing_of_it_is_held(server, me):
    import gc
    import weakref

    server.gate.open = False
    photo = opened(me)
    with me.stream("POST", "/api/jobs", json=order(photo)) as response:
        told = events_of(response)
        next(told)
        deadline = time.monotonic() + 5
        while server.worker._running is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        job = weakref.ref(server.worker._running)
        server.gate.open = True
        assert list(told)[-1][0] == "done"
    deadline = time.monotonic() + 5
    while job() is not None:
        assert time.monotonic() < deadline
        gc.collect()
        time.sleep(0.05)


def test_previews_come_no_faster_than_they_are_seen(server, me, monkeypatch):
    monkeypatch.setattr(events, "_BETWEEN_PREVIEWS", 60)
    server.gate.open = False
    with me.stream("POST", "/api/jobs", json=order(opened(me))) as response:
        told = events_of(response)
        server.gate.let(20)
        while next(told)[0] != "progress":
            pass
        # One was shown, and now nothing for a minute: so the client goes away.


def test_what_is_old_is_forgotten_though_nobody_asks(monkeypatch):
    monkeypatch.setattr(app, "_BETWEEN_CLEANINGS", 0.02)
    forgotten = threading.Event()
    monkeypatch.setattr(app.Store, "forget", lambda self: forgotten.set())
    with serving():
        assert forgotten.wait(5)


def test_at_the_end_those_who_listen_are_told(capfd):
    with serving() as served, served.client() as client:
        served.wait_until_ready()
        served.gate.open = False
        with client.stream("POST", "/api/jobs", json=order(opened(client))) as response:
            told = events_of(response)
            next(told)
            served.worker.stop()
            assert list(told)[-1][0] == "cancelled"
    assert capfd.readouterr().err == ""
