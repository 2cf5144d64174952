//! Where vendors are told to report to, for those that are told with each request.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::path;
use crate::channels::Channel;
use crate::secrets::Vault;

/// Makes channels' callback URLs. Cloning shares it. They end with a secret: for the wire only.
#[derive(Clone)]
pub struct CallbackUrls {
    vault: Arc<Vault>,
    /// The address that vendors reach; unset where nobody said one.
    base: Arc<OnceLock<String>>,
}

impl fmt::Debug for CallbackUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackUrls")
    }
}

impl CallbackUrls {
    /// Without an address yet.
    pub fn new(vault: Arc<Vault>) -> Self {
        Self { vault, base: Arc::default() }
    }

    /// Says under which address vendors reach the gateway, without a slash at the end. The first word counts.
    pub fn begin_with(&self, base: String) {
        let _ = self.base.set(base);
    }

    /// A channel's URL; `None` where its vendor has no callbacks, or nobody said where the gateway is reached: the
    /// address on which it listens means nothing to a vendor.
    pub fn of(&self, channel: &Channel) -> Option<Arc<str>> {
        let base = self.base.get()?;
        path(&self.vault, channel).map(|path| format!("{base}{path}").into())
    }
}
