"""How fast the sampler is, beside the bare network, the machine's matrix products and PyTorch."""
