"""From pictures to a denoiser: data, loss, step, loop, and what is kept and shown of them."""
