"""The console: operate a running node over its admin socket."""
