"""Learned routing for LiteLLM routers."""
