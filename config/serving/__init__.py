"""The parts between a server and the views: middleware, error pages, metrics, storage."""
