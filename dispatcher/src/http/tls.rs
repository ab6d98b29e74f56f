//! TLS: the certificate that callers see, from files, which are read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tidemill_common::error_chain;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::auth::{Version, version};

/// How often the files are looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// Files that cannot be used. Display names them, never their contents.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read certificates or a key from {}", .path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("there is no certificate in {}", .0.display())]
    Empty(PathBuf),
    #[error("{} and {} are not usable for TLS", .cert.display(), .key.display())]
    Unusable { cert: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
    #[error("certificates of {} cannot be trusted", .path.display())]
    Authorities { path: PathBuf, source: reqwest::Error },
}

/// What accepts connections and shows this certificate. Files that have become unusable change nothing.
///
/// # Errors
/// [`TlsError`]
pub fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let files = Files { cert: cert.to_owned(), key: key.to_owned() };
    let version = files.version();
    let read = Read { shown: files.read()?, version, looked_at: Instant::now() };
    let shown = Arc::new(Shown { files, read: Mutex::new(read) });
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

/// Authorities beside the operating system's.
pub(super) fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, TlsError> {
    let refused = |source| TlsError::Authorities { path: path.to_owned(), source };
    let read = certificates(path)?;
    read.iter().map(|one| reqwest::Certificate::from_der(one).map_err(refused)).collect()
}

#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    /// Tells one state of the files from another.
    fn version(&self) -> [Option<Version>; 2] {
        [&self.cert, &self.key].map(|path| std::fs::metadata(path).ok().map(|file| version(&file)))
    }

    /// Refuses a key that is another certificate's, as between two writes.
    fn read(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|source| TlsError::Pem { path: self.key.clone(), source })?;
        let pair = CertifiedKey::from_der(certificates(&self.cert)?, key, &ring::default_provider());
        pair.map(Arc::new).map_err(|source| TlsError::Unusable {
            cert: self.cert.clone(),
            key: self.key.clone(),
            source,
        })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found = read().map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
    if found.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(found) }
}

#[derive(Debug)]
struct Shown {
    files: Files,
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    shown: Arc<CertifiedKey>,
    version: [Option<Version>; 2],
    looked_at: Instant,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.looked_at.elapsed() >= LOOK {
            self.look(&mut read);
        }
        Some(Arc::clone(&read.shown))
    }
}

impl Shown {
    fn look(&self, read: &mut Read) {
        read.looked_at = Instant::now();
        let now = self.files.version();
        if now == read.version {
            return;
        }
        // Remembered also if they are unusable: one line in the log for each change.
        read.version = now;
        match self.files.read() {
            Ok(shown) => {
                tracing::info!("certificate read again");
                read.shown = shown;
            }
            Err(error) => {
                tracing::error!(error = %error_chain(&error), "the certificate read before is still shown");
            }
        }
    }
}
