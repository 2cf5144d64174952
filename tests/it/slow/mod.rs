//! Tests that take more than half a minute each; left out of the fast tier by their module's name.

mod audience;
mod backup;
mod clock;
mod crash;
pub(crate) mod crash_points;
mod credentials;
mod factor;
mod failing_fsync;
mod faults_http2;
mod faults_local;
mod faults_network;
mod full_disk;
mod groups;
mod kill_loop;
mod live;
mod memory;
mod once;
mod overload;
mod pace;
mod proxy;
mod purge;
mod silent;
mod stops;
mod thousand;
mod vendors;
mod waiting;
mod webhooks;
