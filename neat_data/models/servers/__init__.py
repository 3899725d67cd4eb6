"""Talking to servers of models: JSON and chat over HTTP, and vLLM as a process beside this one."""
