//! Tests that take more than half a minute each; left out of the fast tier by their module's name.

mod crash;
mod pace;
mod thousand;
mod waiting;
