"""Acting with latent actions: controllers from known actions to latents, planners, and episodes in simulators."""
