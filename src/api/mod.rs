//! The HTTP API: handlers parse, call one thing, answer. `openapi.yaml` is what they promise.

pub mod problem;
