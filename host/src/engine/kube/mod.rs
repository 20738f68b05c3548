//! Kubernetes, through its API server.
