//! What a registry is told of who asks.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Most bytes of a file of credentials.
const MAX: u64 = 1 << 20;

/// Who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// Somebody with a password, or with a token in its place.
    Basic {
        /// Who.
        user: String,
        /// What only they know.
        password: String,
    },
}

/// Passwords stay out of logs.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { user, .. } => write!(f, "Basic({user:?})"),
        }
    }
}

/// A file of credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It could not be read.
    #[error("cannot read the credentials")]
    Read(#[source] std::io::Error),
    /// It is no JSON, or of another shape.
    #[error("the credentials are not of the form of docker's config.json")]
    Form(#[source] serde_json::Error),
    /// What it has for a registry is none.
    #[error("the credentials for {0} are not the base64 of user:password")]
    Entry(String),
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
}

impl Credentials {
    /// What docker's `config.json` has for a registry, `host` or `host:port`; helper programs that it names are not
    /// started. Without a file, or without an entry, nobody in particular asks.
    ///
    /// # Errors
    /// [`CredentialsError`] where there is a file that cannot be used.
    pub fn from_docker(file: &Path, registry: &str) -> Result<Self, CredentialsError> {
        let mut bytes = Vec::new();
        match std::fs::File::open(file) {
            Ok(file) => file.take(MAX).read_to_end(&mut bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::Anonymous),
            Err(e) => Err(e),
        }
        .map_err(CredentialsError::Read)?;
        let config: DockerConfig =
            serde_json::from_slice(&bytes).map_err(CredentialsError::Form)?;
        let Some(auth) = config.auths.get(registry).and_then(|e| e.auth.as_deref()) else {
            return Ok(Self::Anonymous);
        };
        let decoded = STANDARD.decode(auth).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = text.as_deref().and_then(|text| text.split_once(':'));
        let (user, password) = pair.ok_or_else(|| CredentialsError::Entry(registry.to_owned()))?;
        Ok(Self::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}
