"""World models: the interface that evaluations, planners and policies require, the latent action model and its heads."""
