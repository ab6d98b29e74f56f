//! `[tls]`: the certificate that the API shows.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// TLS of the dispatcher's API, by files; read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate, and after it those between it and the authority, in PEM. If not set: no TLS.
    pub cert_file: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key_file: Option<PathBuf>,
    /// Authorities, in PEM, that may vouch for other dispatchers, beside the operating system's.
    pub ca_file: Option<PathBuf>,
}

impl TlsSettings {
    /// Certificate and key, if there are.
    #[must_use]
    pub fn files(&self) -> Option<(PathBuf, PathBuf)> {
        self.cert_file.clone().zip(self.key_file.clone())
    }

    pub(super) fn check(&self, errors: &mut Vec<String>) {
        if self.cert_file.is_some() != self.key_file.is_some() {
            errors.push("tls.cert_file and tls.key_file must be set together".to_owned());
        }
    }
}
