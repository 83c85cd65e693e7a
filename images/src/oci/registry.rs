//! Images from a registry, by the OCI distribution specification 1.1.
//!
//! ```text
//! GET /v2/<name>/manifests/<tag or digest> ──401──▶ token from where the registry says ──▶ once more
//!  └▶ index ─▶ manifest ─▶ GET /v2/<name>/blobs/<digest>, each into a file without a name
//! ```
//!
//! The registry is hostile: what it sends is bounded by what its own manifest said, and that by a constant; it gets so
//! long and no longer for each next piece; a redirection leaves credentials behind. Without TLS only this host is
//! spoken to.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::IpAddr;
use std::sync::Once;
use std::time::Duration;

use reqwest::header::{ACCEPT, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::blob::{self, BlobError, Blobs, Sha256};
use super::credentials::Credentials;
use super::json::{ACCEPTED, Descriptor, Document};
use super::{Image, MAX_INDEXES, MAX_JSON, OciError, cancellable, finish, json};
use crate::image::Inspection;
use crate::name::ImageName;
use crate::progress::{Phase, Progress};
use crate::rootfs::Limits;
use crate::store::Store;

/// How long a connection, and each next piece, may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often somebody is asked whether they still want it.
const TICK: Duration = Duration::from_millis(200);
/// How often a request may be sent elsewhere.
const REDIRECTIONS: usize = 5;

/// A registry does not give an image.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Its name says of no registry.
    #[error("{0} names no registry: write host/name or host:port/name")]
    NoRegistry(ImageName),
    /// There is no such thing, or nobody answers.
    #[error("the registry cannot be asked")]
    Ask(#[source] reqwest::Error),
    /// It answered, and not with what was asked for.
    #[error("the registry answers {status} to a request for {what}")]
    Status {
        /// Its answer.
        status: StatusCode,
        /// What it was asked for.
        what: String,
    },
    /// It wants to know who asks, in a way that is not understood.
    #[error("the registry wants another kind of proof of who asks than a password or a token")]
    Challenge,
    /// Its token is none.
    #[error("the registry's token cannot be used")]
    Token(#[source] serde_json::Error),
    /// The threads that wait for the network could not be made.
    #[error("cannot wait for the network")]
    Runtime(#[source] io::Error),
    /// The store's disk failed.
    #[error("cannot keep what the registry sends")]
    Keep(#[source] io::Error),
}

/// Pulls the image `reference` from the registry that is its first part, and keeps it as `name`, which another image may
/// lose by it.
///
/// It takes a thread of its own until it is through: from asynchronous code, one for what blocks.
///
/// # Errors
/// [`OciError`]; the store is then as before.
pub fn pull(
    store: &Store,
    reference: &ImageName,
    name: &ImageName,
    credentials: &Credentials,
    progress: Progress<'_>,
) -> Result<Inspection, OciError> {
    cancellable(progress, || {
        let (image, blobs) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(RegistryError::Runtime)?
            .block_on(download(store, reference, credentials, progress))?;
        finish(store, &blobs, image, name, progress)
    })
}

/// Brings an image's parts to this host.
async fn download(
    store: &Store,
    name: &ImageName,
    credentials: &Credentials,
    progress: Progress<'_>,
) -> Result<(Image, Downloaded), OciError> {
    let mut client = Client::new(name, credentials, progress)?;
    let mut blobs = Downloaded::default();
    let reference = name.digest().or(name.tag()).unwrap_or("latest");
    let first = client.manifest(reference).await?;
    let digest = Sha256::of(&first);
    if let Some(said) = name.digest() {
        blob::matches("manifest", said.parse()?, digest)?;
    }
    let mut descriptor = Descriptor::new("", digest, first.len() as u64);
    blobs.add(store, digest, &first)?;
    let mut bytes = first;
    for _ in 0..MAX_INDEXES {
        match json::document(&descriptor, &bytes)? {
            Document::Index(index) => {
                let next = json::choose(index, None)?;
                bytes = client.manifest(&next.digest.to_string()).await?;
                blobs.add(store, next.digest, &bytes)?;
                descriptor = next;
            }
            Document::Manifest(manifest) => {
                client.blobs(store, &mut blobs, &manifest).await?;
                // Read again as any other image is: each part is checked there.
                return Ok((super::image(&blobs, descriptor)?, blobs));
            }
        }
    }
    Err(OciError::TooMuch(
        "more than 4 indexes that lead to one another",
    ))
}

/// What was brought.
#[derive(Debug, Default)]
struct Downloaded(HashMap<String, File>);

impl Downloaded {
    fn add(&mut self, store: &Store, digest: Sha256, bytes: &[u8]) -> Result<(), OciError> {
        let mut file = store.scratch()?;
        file.write_all(bytes).map_err(RegistryError::Keep)?;
        self.0.insert(blob::name(digest), file);
        Ok(())
    }
}

impl Blobs for Downloaded {
    fn open(&self, name: &str) -> Result<Box<dyn Read + '_>, BlobError> {
        let missing = || BlobError::Missing(name.to_owned());
        let mut file = self.0.get(name).ok_or_else(missing)?;
        file.rewind().map_err(|source| BlobError::Read {
            what: name.to_owned(),
            source,
        })?;
        Ok(Box::new(file))
    }
}

/// Asks one registry for the parts of one image.
struct Client<'p> {
    http: reqwest::Client,
    /// `https://host/v2/name`.
    base: String,
    repository: String,
    credentials: &'p Credentials,
    /// How requests prove who asks, once that is known.
    proof: Proof,
    progress: Progress<'p>,
}

#[derive(Clone)]
enum Proof {
    None,
    Basic,
    Bearer(String),
}

impl<'p> Client<'p> {
    fn new(
        name: &ImageName,
        credentials: &'p Credentials,
        progress: Progress<'p>,
    ) -> Result<Self, OciError> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // Somebody else in this process may have chosen before us: theirs serves as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let no_registry = || RegistryError::NoRegistry(name.clone());
        let registry = name.registry().ok_or_else(no_registry)?;
        let repository = name.name()[registry.len() + 1..].to_owned();
        let local = is_loopback(registry);
        let mut http = reqwest::Client::builder()
            .https_only(!local)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTIONS))
            .connect_timeout(PATIENCE)
            .read_timeout(PATIENCE);
        if local {
            http = http.no_proxy();
        }
        let scheme = if local { "http" } else { "https" };
        Ok(Self {
            http: http.build().map_err(RegistryError::Ask)?,
            base: format!("{scheme}://{registry}/v2/{repository}"),
            repository,
            credentials,
            proof: Proof::None,
            progress,
        })
    }

    async fn manifest(&mut self, reference: &str) -> Result<Vec<u8>, OciError> {
        let response = self.get(&format!("manifests/{reference}")).await?;
        let mut bytes = Vec::new();
        let what = "manifest";
        self.body(response, what, MAX_JSON, (0, 0), |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(bytes)
    }

    /// Brings an image's configuration and its layers.
    async fn blobs(
        &mut self,
        store: &Store,
        to: &mut Downloaded,
        manifest: &json::Manifest,
    ) -> Result<(), OciError> {
        let mut wanted = vec![&manifest.config];
        wanted.extend(&manifest.layers);
        // One that comes twice in an image is fetched once.
        let mut seen = std::collections::HashSet::new();
        wanted.retain(|d| seen.insert(d.digest));
        let sizes = wanted.iter().map(|d| d.size);
        let total = sizes.fold(0, u64::saturating_add);
        let max = Limits::DEFAULT.bytes;
        if total > max {
            let what = "layers".to_owned();
            return Err(BlobError::TooLarge { what, max }.into());
        }
        let mut done = 0;
        for descriptor in wanted {
            let response = self.get(&format!("blobs/{}", descriptor.digest)).await?;
            let mut file = store.scratch()?;
            let name = blob::name(descriptor.digest);
            self.body(response, &name, descriptor.size, (done, total), |piece| {
                file.write_all(piece)
            })
            .await?;
            done += descriptor.size;
            to.0.insert(name, file);
        }
        Ok(())
    }

    /// Asks for a part, and proves who asks where the registry wants to know.
    async fn get(&mut self, path: &str) -> Result<Response, OciError> {
        let url = format!("{}/{path}", self.base);
        let response = self.send(&url).await?;
        let response = match response.status() {
            StatusCode::UNAUTHORIZED => {
                self.proof = self.prove(&response).await?;
                self.send(&url).await?
            }
            _ => response,
        };
        match response.status() {
            StatusCode::OK => Ok(response),
            status => {
                let what = format!("{}/{path}", self.repository);
                Err(RegistryError::Status { status, what }.into())
            }
        }
    }

    async fn send(&self, url: &str) -> Result<Response, OciError> {
        let request = self.http.get(url).header(ACCEPT, ACCEPTED.join(", "));
        let request = match (&self.proof, self.credentials) {
            (Proof::Basic, Credentials::Basic { user, password }) => {
                request.basic_auth(user, Some(password))
            }
            (Proof::Bearer(token), _) => request.bearer_auth(token),
            _ => request,
        };
        self.answer(request).await
    }

    /// Waits for an answer, for as long as anybody wants it.
    async fn answer(&self, request: RequestBuilder) -> Result<Response, OciError> {
        let mut sending = std::pin::pin!(request.send());
        loop {
            if let Ok(answer) = tokio::time::timeout(TICK, &mut sending).await {
                return Ok(answer.map_err(RegistryError::Ask)?);
            }
            self.still_wanted()?;
        }
    }

    fn still_wanted(&self) -> Result<(), OciError> {
        if self.progress.is_cancelled() {
            return Err(OciError::Cancelled);
        }
        Ok(())
    }

    /// What will prove who asks, after what the registry said to a request without.
    async fn prove(&self, refused: &Response) -> Result<Proof, OciError> {
        let challenge = refused.headers().get(WWW_AUTHENTICATE);
        let challenge = challenge.and_then(|value| value.to_str().ok());
        let challenges = challenge.and_then(|text| http_auth::parse_challenges(text).ok());
        for challenge in challenges.unwrap_or_default() {
            let scheme = challenge.scheme.to_ascii_lowercase();
            if scheme == "basic" && matches!(self.credentials, Credentials::Basic { .. }) {
                return Ok(Proof::Basic);
            }
            if scheme == "bearer" {
                let parameter = |name: &str| {
                    let mut all = challenge.params.iter();
                    let found = all.find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                let realm = parameter("realm").and_then(|realm| Url::parse(&realm).ok());
                let realm = realm.ok_or(RegistryError::Challenge)?;
                return self.token(realm, parameter("service")).await;
            }
        }
        Err(RegistryError::Challenge.into())
    }

    /// Fetches a token from where the registry says.
    async fn token(&self, mut realm: Url, service: Option<String>) -> Result<Proof, OciError> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let scope = format!("repository:{}:pull", self.repository);
        realm.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = service {
            realm.query_pairs_mut().append_pair("service", &service);
        }
        // Passwords go through TLS, or stay on this host.
        let safe = realm.scheme() == "https" || realm.host_str().is_some_and(is_loopback);
        let request = match self.credentials {
            _ if !safe => return Err(RegistryError::Challenge.into()),
            Credentials::Anonymous => self.http.get(realm),
            Credentials::Basic { user, password } => {
                self.http.get(realm).basic_auth(user, Some(password))
            }
        };
        let response = self.answer(request).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let what = "a token".to_owned();
            return Err(RegistryError::Status { status, what }.into());
        }
        let mut bytes = Vec::new();
        self.body(response, "token", MAX_JSON, (0, 0), |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        let token: Token = serde_json::from_slice(&bytes).map_err(RegistryError::Token)?;
        let token = token.token.or(token.access_token);
        Ok(Proof::Bearer(token.ok_or(RegistryError::Challenge)?))
    }

    /// Takes an answer's bytes, at most `max`.
    async fn body(
        &self,
        mut response: Response,
        what: &str,
        max: u64,
        (done, total): (u64, u64),
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), OciError> {
        let mut got = 0;
        loop {
            let Ok(chunk) = tokio::time::timeout(TICK, response.chunk()).await else {
                self.still_wanted()?;
                continue;
            };
            let Some(chunk) = chunk.map_err(RegistryError::Ask)? else {
                return Ok(());
            };
            got += chunk.len() as u64;
            if got > max {
                let what = what.to_owned();
                return Err(BlobError::TooLarge { what, max }.into());
            }
            take(&chunk).map_err(RegistryError::Keep)?;
            self.progress
                .step(Phase::Download, done + got, total)
                .map_err(|_| OciError::Cancelled)?;
        }
    }
}

/// Whether a registry is on this host, where nobody listens in.
fn is_loopback(registry: &str) -> bool {
    let host = registry.split(':').next().unwrap_or_default();
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}
