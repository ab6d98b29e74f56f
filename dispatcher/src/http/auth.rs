//! Who calls, and what they may: static tokens, of which a file holds the SHA-256.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tidemill_common::api::ProblemKind;
use tidemill_common::config::matches;
use tidemill_common::error_chain;
use tokio::time::Instant;

use super::problem::Refusal;
use super::state::ApiState;

/// How often the file is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Produce,
    Work,
    Read,
    Admin,
}

impl Scope {
    const ALL: [(Scope, &'static str); 4] =
        [(Scope::Produce, "produce"), (Scope::Work, "work"), (Scope::Read, "read"), (Scope::Admin, "admin")];

    pub(super) fn name(self) -> &'static str {
        match self {
            Scope::Produce => "produce",
            Scope::Work => "work",
            Scope::Read => "read",
            Scope::Admin => "admin",
        }
    }
}

/// A line of the file: `NAME SHA256HEX SCOPES[ QUEUES]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Token {
    name: String,
    hash: [u8; 32],
    scopes: Vec<Scope>,
    /// Patterns; `None`: all queues.
    queues: Option<Vec<String>>,
}

/// A file of tokens that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    #[error("cannot read http.tokens_file {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("http.tokens_file {}, line {line}: {fault}", .path.display())]
    Line { path: PathBuf, line: usize, fault: String },
    #[error("http.tokens_file {} holds no token", .0.display())]
    Empty(PathBuf),
}

/// The tokens of a file, read again when it changes. A file that has become unusable changes nothing.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    tokens: Vec<Arc<Token>>,
    version: Option<Version>,
    looked_at: Instant,
}

/// Tells one state of the file from another: time of change, size, file number.
pub(super) type Version = (i64, i64, u64, u64);

impl Tokens {
    /// Reads the file.
    ///
    /// # Errors
    /// [`TokensError`]
    pub fn load(path: &Path) -> Result<Self, TokensError> {
        let (tokens, version) = read(path)?;
        let read = Read { tokens, version: Some(version), looked_at: Instant::now() };
        Ok(Self { path: path.to_owned(), read: Mutex::new(read) })
    }

    /// The token with this text. Every one is compared in full, whatever the first bytes are.
    fn find(&self, text: &str) -> Option<Arc<Token>> {
        let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.looked_at.elapsed() >= LOOK {
            self.look(&mut read);
        }
        let mut found = None;
        for token in &read.tokens {
            let same: Choice = token.hash.ct_eq(&hash);
            if bool::from(same) {
                found = Some(Arc::clone(token));
            }
        }
        found
    }

    fn look(&self, read: &mut Read) {
        read.looked_at = Instant::now();
        let now = std::fs::metadata(&self.path).ok().map(|m| version(&m));
        if now == read.version {
            return;
        }
        // Remembered also if it is unusable: one line in the log for each change.
        read.version = now;
        match self::read(&self.path) {
            Ok((tokens, version)) => {
                tracing::info!(tokens = tokens.len(), "tokens read again");
                (read.tokens, read.version) = (tokens, Some(version));
            }
            Err(error) => {
                tracing::error!(error = %error_chain(&error), "the tokens read before stay in force");
            }
        }
    }
}

pub(super) fn version(file: &Metadata) -> Version {
    (file.mtime(), file.mtime_nsec(), file.size(), file.ino())
}

fn read(path: &Path) -> Result<(Vec<Arc<Token>>, Version), TokensError> {
    let failed = |source| TokensError::Read(path.to_owned(), source);
    // Before the text: a change in between is seen at the next look.
    let version = version(&std::fs::metadata(path).map_err(failed)?);
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let mut tokens = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = parse(line).map_err(|fault| TokensError::Line {
            path: path.to_owned(),
            line: number + 1,
            fault,
        })?;
        tokens.push(Arc::new(token));
    }
    if tokens.is_empty() { Err(TokensError::Empty(path.to_owned())) } else { Ok((tokens, version)) }
}

/// The fault never repeats the line: somebody may have written the token itself.
fn parse(line: &str) -> Result<Token, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (name, hash, scopes, queues) = match words.as_slice() {
        [name, hash, scopes] => (name, hash, scopes, None),
        [name, hash, scopes, queues] => (name, hash, scopes, Some(queues)),
        _ => return Err("must be NAME SHA256HEX SCOPES, and QUEUES if it is not for all".to_owned()),
    };
    let hash =
        parse_hash(hash).ok_or("the second word must be the token's SHA-256, 64 hexadecimal digits")?;
    let scopes = scopes
        .split(',')
        .map(|word| Scope::ALL.iter().find(|(_, name)| *name == word).map(|(scope, _)| *scope))
        .collect::<Option<Vec<_>>>()
        .ok_or("scopes are produce, work, read and admin, separated by commas")?;
    let queues = queues.map(|list| list.split(',').map(str::to_owned).collect());
    Ok(Token { name: (*name).to_owned(), hash, scopes, queues })
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// Who calls. `None`: there are no tokens, and everybody is on this machine.
#[derive(Debug, Clone)]
pub(super) struct Caller(Option<Arc<Token>>);

impl Caller {
    /// Whether it may do this to a queue.
    pub(super) fn may(&self, scope: Scope, queue: &str) -> bool {
        let Some(token) = &self.0 else { return true };
        token.scopes.contains(&scope)
            && token
                .queues
                .as_ref()
                .is_none_or(|patterns| patterns.iter().any(|pattern| matches(pattern, queue)))
    }

    /// Whether it may do this to any queue at all.
    pub(super) fn may_somewhere(&self, scope: Scope) -> bool {
        self.0.as_ref().is_none_or(|token| token.scopes.contains(&scope))
    }

    /// Whether it may do this to every queue.
    pub(super) fn may_everywhere(&self, scope: Scope) -> bool {
        self.0.as_ref().is_none_or(|token| token.scopes.contains(&scope) && token.queues.is_none())
    }

    /// Refuses what it may not.
    pub(super) fn check(&self, scope: Scope, queue: &str) -> Result<(), Refusal> {
        if self.may(scope, queue) { Ok(()) } else { Err(Self::forbidden(scope, queue)) }
    }

    /// Refuses a token without the scope.
    pub(super) fn check_somewhere(&self, scope: Scope) -> Result<(), Refusal> {
        if self.may_somewhere(scope) {
            return Ok(());
        }
        Err(Refusal::new(
            ProblemKind::Forbidden,
            format!("the token does not have the scope `{}`", scope.name()),
        ))
    }

    /// A queue that is not there: only an administrator may learn that, everybody else is refused as if it were not
    /// theirs.
    pub(super) fn unknown_queue(&self, scope: Scope, queue: &str, otherwise: Refusal) -> Refusal {
        if self.may(Scope::Admin, queue) { otherwise } else { Self::forbidden(scope, queue) }
    }

    fn forbidden(scope: Scope, queue: &str) -> Refusal {
        let scope = scope.name();
        Refusal::new(
            ProblemKind::Forbidden,
            format!(
                "the token does not have the scope `{scope}` for a job queue `{queue}`, or there is none"
            ),
        )
    }
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Refusal> {
        let Some(tokens) = &state.tokens else { return Ok(Caller(None)) };
        let text = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        let token = text.and_then(|text| tokens.find(text)).ok_or_else(|| {
            Refusal::new(
                ProblemKind::Unauthorized,
                "send the header `authorization: Bearer TOKEN` with a valid token",
            )
        })?;
        tracing::trace!(token = token.name, "called");
        Ok(Caller(Some(token)))
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.trim())
}
