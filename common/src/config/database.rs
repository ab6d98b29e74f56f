//! `[database]` and `[[databases]]`.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::db::{Pooler, Target, TargetOptions};
use crate::secret::Secret;

/// One database.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// How logs, metrics and other settings call it; the database's own name if not set.
    pub name: Option<String>,
    /// libpq URL, with or without password.
    #[serde(serialize_with = "without_password")]
    pub url: Option<Secret>,
    /// File with the URL in it; read again at every connect.
    pub url_file: Option<PathBuf>,
    /// Less than `sslmode=verify-full` to another machine is meant.
    pub allow_plaintext: bool,
    /// `none` or `transaction`.
    pub pooler: Pooler,
}

impl DatabaseSettings {
    fn target(&self, place: &str) -> Result<Target, String> {
        let options = TargetOptions { allow_plaintext: self.allow_plaintext, pooler: self.pooler };
        let name = self.name.as_deref();
        let parse = |name: &str| match (&self.url, &self.url_file) {
            (Some(url), None) => Some(Target::parse(name, url.reveal(), &options)),
            (None, Some(path)) => Some(Target::from_file(name, path, &options)),
            _ => None,
        };
        let sentence =
            |error: &(dyn std::error::Error + 'static)| format!("{place}: {}", crate::error_chain(error));
        let unnamed = parse(name.unwrap_or_default())
            .ok_or_else(|| format!("{place} needs either url or url_file"))?
            .map_err(|error| sentence(&error))?;
        unnamed.check_files().map_err(|error| sentence(&error))?;
        match (name, unnamed.dbname()) {
            (Some(_), _) => Ok(unnamed),
            (None, Some(dbname)) => Ok(unnamed.named(dbname)),
            (None, None) => Err(format!("{place} needs a name, because its URL names no database")),
        }
    }
}

/// All targets; what is wrong with any of them is added to `errors`.
pub(super) fn targets(
    one: Option<&DatabaseSettings>,
    many: &[DatabaseSettings],
    errors: &mut Vec<String>,
) -> Vec<Arc<Target>> {
    let one = one.map(|settings| ("database".to_owned(), settings));
    let many = many.iter().enumerate().map(|(index, settings)| (format!("databases[{index}]"), settings));
    let mut targets: Vec<Arc<Target>> = Vec::new();
    for (place, settings) in one.into_iter().chain(many) {
        match settings.target(&place) {
            Err(sentence) => errors.push(sentence),
            Ok(target) if targets.iter().any(|other| other.name() == target.name()) => {
                errors.push(format!("{place}: there is another database named \"{}\"", target.name()));
            }
            Ok(target) => targets.push(Arc::new(target)),
        }
    }
    if targets.is_empty() && errors.is_empty() {
        errors.push("no database is configured: set url in [database], or TIDEMILL_DATABASE__URL".to_owned());
    }
    targets
}

fn without_password<S: Serializer>(url: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    let allowed = TargetOptions { allow_plaintext: true, ..TargetOptions::default() };
    let shown = url.as_ref().map(|url| {
        Target::parse("", url.reveal(), &allowed)
            .map_or_else(|_| "***".to_owned(), |target| target.display_url())
    });
    shown.serialize(serializer)
}
