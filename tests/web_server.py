"""The page's server in a thread of the tests, with a model that waits where a test wants it to."""

import io
import json
import threading
from contextlib import contextmanager

import httpx
import jax.numpy as jnp
import numpy as np
from PIL import Image

from repaint_jax.pipeline import Pipeline
from repaint_jax.schedules import NoiseSchedule
from repaint_jax.web import jobs
from repaint_jax.web.app import application
from repaint_jax.web.jobs import Worker
from repaint_jax.web.server import PageServer, listening

SIZE = 16


class Gate:
    """Opened for a number of steps, or for all."""

    def __init__(self):
        self._steps = threading.Semaphore(0)
        self.steps = 0  # that have been made
        self.open = True

    def __call__(self):
        while not self.open and not self._steps.acquire(timeout=0.01):
            pass
        self.steps += 1

    def let(self, steps):
        self._steps.release(steps)


class Paced(Pipeline):
    """A pipeline that asks `gate` before each step, and never calls a network."""

    gate = Gate()

    def stream_photo(self, *arguments, **more):
        for progress in super().stream_photo(*arguments, **more):
            self.gate()
            yield progress


def paced_pipeline(channels=3):
    return Paced(
        lambda x, t: 0.1 * x + jnp.sin(x), NoiseSchedule.linear(1000), (SIZE, SIZE), channels
    )


class Served:
    """A running server.

    Attributes:
        url: where.
        worker: its worker.
        gate: which its model passes at each step.
    """

    def __init__(self, url, worker):
        self.url, self.worker, self.gate = url, worker, Paced.gate

    def client(self, name="0" * 32, **headers):
        """What a browser's tab is to the server."""
        return httpx.Client(
            base_url=self.url, trust_env=False, timeout=30,
            headers={"x-repaint-client": name, **headers},
        )  # fmt: skip

    def wait_until_ready(self):
        with self.client() as client:
            while client.get("/api/status").json()["state"] != "ready":
                pass
        return self


@contextmanager
def serving(load=lambda: (paced_pipeline(), None), *, host="127.0.0.1", token=None, warm_up=0.0):
    listener = listening("127.0.0.1", 0)
    jobs._WARM_UP_SECONDS = warm_up
    worker = Worker(load, num_samples=1)
    server = PageServer(application(worker, host=host, token=token), worker)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    worker.start()
    try:
        yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", worker)
    finally:
        Paced.gate.open = True
        server.should_exit = True
        thread.join()
        assert worker.join(30)


def png(pixels, kind="PNG", **options):
    """The bytes of a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def pixels_of(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def photograph(height=40, width=60, seed=0):
    """Noise, of which no two pixels are likely to be alike."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


SCRATCH = [{"kind": "brush", "size": 4, "points": [[5, 5], [30, 20]]}]


def order(photo, strokes=SCRATCH, **changes):
    """What the page sends to have a hole filled, quickly."""
    return {
        "photo": photo, "strokes": strokes, "method": "repaint", "quality": "draft", "samples": 1,
        "seed": 0, "window": "hole", "margin": 0.5, **changes,
    }  # fmt: skip


def opened(client, pixels=None):
    """The id of a photograph that was uploaded."""
    answer = client.post("/api/photos", content=png(photograph() if pixels is None else pixels))
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def events_of(response):
    """The events of a stream, as they come."""
    kind = None
    for line in response.iter_lines():
        name, _, text = line.partition(": ")
        if name == "event":
            kind = text
        elif name == "data":
            yield kind, json.loads(text)
