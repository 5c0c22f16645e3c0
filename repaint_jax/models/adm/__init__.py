"""The networks of Dhariwal and Nichol (2021), guided-diffusion's."""
