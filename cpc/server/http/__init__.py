"""The people's door: TLS, HTTP/1.1, JSON. One declaration per call gives routing, checks, OpenAPI and the manual."""
