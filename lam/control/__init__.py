"""Acting with latent actions: controllers from known actions to latents, planners, episodes with known truth."""
