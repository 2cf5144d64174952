//! Who changes something: known from the door on, without every call in between naming it.
//!
//! What comes in: a door (an HTTP request, a command) wraps what it does in [`acting`]. What goes out: the store asks
//! [`actor`] whenever it is handed a rare write, and the statements of that write add a line to the audit log, in the
//! same transaction, with `audit::note(session, &[Audit::new(app, "thing.verb", "things/name")…])`. So a new resource adds
//! that one line where its row is written, and nothing above it. What nobody stands behind is the gateway's own doing.

use std::fmt;
use std::net::IpAddr;

tokio::task_local! {
    static ACTOR: Actor;
}

/// Who, from where, and in which request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// Who.
    pub who: Who,
    /// From where.
    pub ip: Option<IpAddr>,
    /// The `Request-Id` of the call.
    pub request_id: Option<String>,
}

/// Who may change something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Who {
    /// The gateway by itself.
    #[default]
    Gateway,
    /// Somebody at a terminal, with the data directory.
    CommandLine,
    /// The key of an app, by its id.
    Key(String),
    /// An admin key, by its id.
    AdminKey(String),
    /// A phone with its device secret, by the device's id.
    Device(String),
}

impl fmt::Display for Who {
    /// As it is stored: the kind and, behind a colon, the id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("gateway"),
            Self::CommandLine => f.write_str("command_line"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::AdminKey(id) => write!(f, "admin_key:{id}"),
            Self::Device(id) => write!(f, "device:{id}"),
        }
    }
}

impl From<Who> for Actor {
    fn from(who: Who) -> Self {
        Self { who, ..Self::default() }
    }
}

/// Does something in somebody's name. Work that is spawned meanwhile is the gateway's own again.
pub async fn acting<T>(actor: Actor, work: impl Future<Output = T>) -> T {
    ACTOR.scope(actor, work).await
}

/// The same in the name of somebody whom a request has turned out to come from: its address and id stay.
pub async fn acting_as<T>(who: Who, work: impl Future<Output = T>) -> T {
    acting(Actor { who, ..actor() }, work).await
}

/// In whose name this task acts.
pub fn actor() -> Actor {
    ACTOR.try_with(Clone::clone).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_acts_is_known_inside_and_forgotten_outside() {
        assert_eq!(actor(), Actor::default());
        let key = Actor::from(Who::Key("1a2b3c4d".into()));
        let seen = acting(key.clone(), async { actor() }).await;
        assert_eq!(seen, key);
        assert_eq!(actor().who.to_string(), "gateway");
    }
}
