//! The servers a URL names: lists of hosts, addresses and ports that belong together.

use std::net::IpAddr;

use super::url::{UrlError, number};

/// One server to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostEntry {
    /// Name, address or socket directory as written.
    pub host: String,
    /// Address that replaces the look-up.
    pub address: Option<IpAddr>,
    pub port: u16,
}

impl HostEntry {
    /// A directory with a Unix socket in it.
    pub(super) fn is_unix(&self) -> bool {
        self.address.is_none() && self.host.starts_with('/')
    }

    /// Reached without leaving this machine.
    pub(super) fn is_local(&self) -> bool {
        match self.address.or_else(|| self.host.parse().ok()) {
            Some(address) => address.is_loopback(),
            None => self.is_unix() || self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl std::fmt::Display for HostEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Puts the comma-separated lists of a URL together, with libpq's rules for missing entries.
pub(super) fn host_list(hosts: &str, addresses: &str, ports: &str) -> Result<Vec<HostEntry>, UrlError> {
    let split = |text: &str| -> Vec<String> {
        if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_owned).collect() }
    };
    let (mut names, addresses, ports) = (split(hosts), split(addresses), split(ports));
    if names.is_empty() {
        names = if addresses.is_empty() { vec![String::new()] } else { addresses.clone() };
    }
    let count = names.len();
    if !addresses.is_empty() && addresses.len() != count {
        return Err(UrlError::ListLength { hosts: count, other: addresses.len(), what: "hostaddr values" });
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(UrlError::ListLength { hosts: count, other: ports.len(), what: "ports" });
    }
    let entry = |(index, name): (usize, String)| {
        let port = ports.get(index).or(ports.first()).map_or("", String::as_str);
        let address = addresses.get(index).filter(|address| !address.is_empty());
        Ok(HostEntry {
            host: if name.is_empty() { default_host() } else { name },
            address: address
                .map(|text| text.parse())
                .transpose()
                .map_err(|_| UrlError::Value { name: "hostaddr", expected: "IP addresses" })?,
            port: match port {
                "" => 5432,
                text => number("port", "numbers from 1 to 65535", text)?,
            },
        })
    };
    names.into_iter().enumerate().map(entry).collect()
}

/// Where libpq of the usual packages looks if no host is named.
fn default_host() -> String {
    let debian = "/var/run/postgresql";
    if std::path::Path::new(debian).is_dir() { debian.to_owned() } else { "/tmp".to_owned() }
}
