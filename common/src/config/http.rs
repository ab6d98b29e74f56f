//! `[http]`: the API that workers and operators call.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The HTTP API of the dispatcher.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Address and port; if not set, port 8080, on loopback unless `tokens_file` is set. Port 0: any.
    pub listen: Option<SocketAddr>,
    /// URL under which other dispatchers reach this one; if not set, made from the address listened on.
    pub advertise: Option<String>,
    /// File with the tokens that callers must show.
    pub tokens_file: Option<PathBuf>,
    /// Largest request body.
    pub body_limit_bytes: u64,
    /// Most requests that wait for jobs at a time.
    pub max_polls: u32,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: None,
            advertise: None,
            tokens_file: None,
            body_limit_bytes: 1024 * 1024,
            max_polls: 10_000,
        }
    }
}

impl HttpSettings {
    /// The address to listen on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let open = self.tokens_file.is_some();
        let ip = if open { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        self.listen.unwrap_or_else(|| SocketAddr::from((ip, 8080)))
    }

    pub(super) fn check(&self, errors: &mut Vec<String>) {
        super::positive(errors, "http.body_limit_bytes", self.body_limit_bytes);
        super::positive(errors, "http.max_polls", self.max_polls.into());
        let address = self.address();
        if self.tokens_file.is_none() && !address.ip().is_loopback() {
            errors.push(format!(
                "http.listen = {address} can be reached from other machines: set http.tokens_file, or listen on loopback"
            ));
        }
    }
}
