"""How do requests become spans of OpenTelemetry? An extra: nothing of it is imported unless it is
asked for."""
