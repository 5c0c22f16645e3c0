# docker build --target cpu -t repaint-jax .      or --target cuda, for NVIDIA GPUs
# docker run --rm -v "$PWD:/work" repaint-jax inpaint --config=celeba --config.image=me.jpg
# docker run --rm --gpus=all -v "$PWD:/work" repaint-jax inpaint --config=celeba
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /repaint
COPY . .
RUN pip wheel --no-cache-dir --no-deps -w /wheel .

FROM python:3.11-slim-bookworm AS cpu
# The pinned versions first: they change less often than the code, and stay in Docker's cache.
COPY requirements.txt /tmp/
RUN grep -v '^-e' /tmp/requirements.txt > /tmp/pinned.txt \
    && pip install --no-cache-dir -r /tmp/pinned.txt
RUN --mount=from=wheel,source=/wheel,target=/wheel pip install --no-cache-dir --no-deps /wheel/*.whl
RUN useradd --create-home --uid 1000 repaint && mkdir /work && chown 1000 /work
USER 1000
WORKDIR /work
ENTRYPOINT ["repaint-jax"]

# CUDA and cuDNN come with JAX's own packages; of the machine only the driver is needed.
FROM cpu AS cuda
USER 0
RUN pip install --no-cache-dir "jax[cuda13]==$(python -c 'import jax; print(jax.__version__)')"
USER 1000
