"""SmolLM2-135M-Instruct as a plain folder: a small language model that answers in English, without a model hub."""
