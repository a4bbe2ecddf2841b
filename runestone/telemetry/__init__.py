"""What happened: events, metrics, logs."""
