"""The layers around every route: middleware, path normalisation, draining, exception handlers, health and metrics."""
