"""How fast the sampler is, beside the bare network, the machine's matrix products and PyTorch."""


class BenchmarkError(ValueError):
    """What was asked for cannot be measured; the message says why and what to do."""
