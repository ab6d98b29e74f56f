//! From file and environment to checked settings.

use std::path::PathBuf;

use figment::value::{Dict, Value};
use figment::{
    Figment, Profile, Provider,
    providers::{Format, Toml},
};

use super::{Settings, env, shape};

/// What is wrong with the configuration: all of it, one sentence a line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A named file must exist.
    #[error("cannot read the configuration file {}", .path.display())]
    Read {
        /// As it was named.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Sentences.
    #[error("{}", .0.join("\n"))]
    Wrong(Vec<String>),
}

impl ConfigError {
    /// One sentence, for services that find out more while they build.
    #[must_use]
    pub fn sentence(text: impl Into<String>) -> Self {
        Self::Wrong(vec![text.into()])
    }
}

/// Where settings come from.
#[derive(Debug, Clone, Default)]
pub struct Source {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Source {
    /// A file, and variables laid over it.
    #[must_use]
    pub fn new(file: Option<PathBuf>, environment: Vec<(String, String)>) -> Self {
        Self { file, environment }
    }

    /// The file named by the flag or by `TIDEMILL_CONFIG`, and this process's environment.
    #[must_use]
    pub fn of_process(flag: Option<PathBuf>) -> Self {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let environment: Vec<(String, String)> = std::env::vars_os().filter_map(unicode).collect();
        let named = environment.iter().find(|(name, value)| name == "TIDEMILL_CONFIG" && !value.is_empty());
        let file = flag.or_else(|| named.map(|(_, path)| PathBuf::from(path)));
        Self { file, environment }
    }

    /// `RUST_LOG` of this process.
    #[must_use]
    pub fn rust_log() -> Option<String> {
        std::env::vars_os().find(|(name, _)| name == "RUST_LOG").and_then(|(_, text)| text.into_string().ok())
    }
}

impl Settings {
    /// Reads, lays over, compares with the known keys, converts and checks.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong, not only the first thing.
    pub fn load(source: &Source) -> Result<Self, ConfigError> {
        let text = match &source.file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.clone(), source })?,
        };
        Self::from_text(&text, &source.environment)
    }

    /// Like [`Settings::load`] with the file's text.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_text(toml: &str, environment: &[(String, String)]) -> Result<Self, ConfigError> {
        let mut written = parse(toml)?;
        let example = example();
        env::overlay(&mut written, &example, environment);
        let mut errors = Vec::new();
        shape::compare(&mut written, &example, "", &mut errors);
        let mut settings = extract(written, &mut errors)?;
        errors.extend(settings.check());
        if errors.is_empty() { Ok(settings) } else { Err(ConfigError::Wrong(errors)) }
    }

    /// The settings in effect as TOML, without secrets.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are sections of plain values")
    }
}

fn parse(toml: &str) -> Result<Dict, ConfigError> {
    let data = Toml::string(toml).data().map_err(|error| {
        // The parser points at line and column, and quotes the line: it may hold a password, so only its first
        // line is passed on.
        let text = error.to_string();
        ConfigError::sentence(format!("not TOML: {}", text.lines().next().unwrap_or_default()))
    })?;
    Ok(data.get(&Profile::Default).cloned().unwrap_or_default())
}

fn example() -> Dict {
    let example = Value::serialize(Settings::example()).expect("settings are sections of plain values");
    example.into_dict().expect("settings are a section")
}

/// Converts. A value that cannot be converted is named, taken out, and the rest tried again.
fn extract(mut written: Dict, errors: &mut Vec<String>) -> Result<Settings, ConfigError> {
    loop {
        let figment = Figment::from(figment::providers::Serialized::defaults(&written));
        let error = match figment.extract::<Settings>() {
            Ok(settings) => return Ok(settings),
            Err(error) => error,
        };
        errors.push(sentence(&error));
        if !remove(&mut written, &error.path) {
            return Err(ConfigError::Wrong(std::mem::take(errors)));
        }
    }
}

fn sentence(error: &figment::Error) -> String {
    use figment::error::Kind;
    let name = error.path.join(".");
    match &error.kind {
        Kind::UnknownVariant(_, known) => format!("{name} must be one of: {}", known.join(", ")),
        Kind::InvalidValue(_, expected) | Kind::InvalidType(_, expected) => {
            format!("{name} must be {expected}")
        }
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => format!("{name} is out of range"),
        Kind::Message(text) => format!("{name}: {text}"),
        other => format!("{name}: {other}"),
    }
}

fn remove(from: &mut Dict, path: &[String]) -> bool {
    match path.split_first() {
        None => false,
        Some((key, [])) => from.remove(key).is_some(),
        Some((key, rest)) => match from.get_mut(key) {
            Some(Value::Dict(_, section)) => remove(section, rest),
            Some(Value::Array(_, items)) => {
                let Some((index, rest)) = rest.split_first() else { return false };
                match index.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                    Some(Value::Dict(_, section)) => remove(section, rest),
                    _ => from.remove(key).is_some(),
                }
            }
            _ => from.remove(key).is_some(),
        },
    }
}
