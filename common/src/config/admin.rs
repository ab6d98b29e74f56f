//! `[admin]`: probes, metrics, and how the process stops.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The admin port, and the limits of stopping and standing still.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {
    /// Address and port of `/livez`, `/readyz` and `/metrics`. Port 0: any.
    pub listen: SocketAddr,
    /// How long the process may take to finish what it has after SIGTERM. Kubernetes' grace period must be
    /// longer.
    pub drain_ms: u64,
    /// A loop that is in one pass for longer than this is dead: `/livez` fails.
    pub stalled_after_ms: u64,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
            drain_ms: 25_000,
            stalled_after_ms: 120_000,
        }
    }
}

impl AdminSettings {
    /// How long stopping may take.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    /// How long one pass may take.
    #[must_use]
    pub fn stalled_after(&self) -> Duration {
        Duration::from_millis(self.stalled_after_ms)
    }

    pub(super) fn check(&self, errors: &mut Vec<String>) {
        // A pass may wait for several deadlines of 10 s each.
        super::ordered(
            errors,
            ("the least admin.stalled_after_ms", 30_000),
            ("admin.stalled_after_ms", self.stalled_after_ms),
        );
    }
}
