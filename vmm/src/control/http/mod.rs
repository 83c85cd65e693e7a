//! HTTP/1.1, as far as the control API needs it: bytes in, requests or a refusal out.
//!
//! [`Parser`] knows no sockets and no clock, so that it can be tested and fuzzed with bytes alone. It holds at
//! most one head and one body: [`Parser::room`] says how many bytes it will take now, and who feeds it reads no
//! more than that from its peer. A refusal is final: where one request ends wrongly, nobody knows where the next begins.
//!
//! ```text
//!          feed: a head          feed: the last of its body
//!   head ----------------> body ----------------------------> head, and a request
//!    |  a head without a body: a request at once               |
//!    +---------------------------> refused <-------------------+
//! ```
//!
//! What comes out does not depend on how the bytes were cut: a head is parsed as far as its last whole line, never beyond.

mod response;

pub use response::Response;

/// Most bytes of a request's line and headers.
pub const MAX_HEAD: usize = 8 << 10;
/// Most headers of a request.
pub const MAX_HEADERS: usize = 64;
/// Most bytes of a request's body: Firecracker's own limit.
pub const MAX_BODY: usize = 51_200;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub method: Method,
    /// The path, without scheme and authority where the client sent them.
    pub path: String,
    /// The body; empty where there is none.
    pub body: Vec<u8>,
    /// Whether the connection can carry another request after this one.
    pub keep_alive: bool,
}

/// A method; the API uses three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Sets a whole.
    Put,
    /// Changes a part.
    Patch,
    /// Any other, by its name.
    Other(String),
}

impl Method {
    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Other(name) => name,
        }
    }
}

/// Why bytes were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Not HTTP.
    #[error("the request is not valid HTTP/1.1: {0}")]
    Syntax(httparse::Error),
    /// A version of the protocol that this server does not speak.
    #[error("the request's version of HTTP is neither 1.0 nor 1.1")]
    Version,
    /// A head too long.
    #[error("the request's line and headers have more than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// Too many headers.
    #[error("the request has more than {MAX_HEADERS} headers")]
    TooManyHeaders,
    /// A length that is no number.
    #[error("the request's Content-Length is {0:?}, not one number")]
    ContentLength(String),
    /// More than one length.
    #[error("the request has more than one Content-Length")]
    ContentLengthTwice,
    /// A body too long.
    #[error("the request's body has {0} bytes, {MAX_BODY} are allowed")]
    BodyTooLong(u64),
    /// A body of unknown length.
    #[error("the request has a Transfer-Encoding: send its body whole, with a Content-Length")]
    TransferEncoding,
    /// An expectation other than `100-continue`.
    #[error("the request's expectation {0:?} cannot be met")]
    Expectation(String),
}

impl HttpError {
    /// The status that answers it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Syntax(_) | Self::ContentLength(_) | Self::ContentLengthTwice => 400,
            Self::TransferEncoding => 411,
            Self::BodyTooLong(_) => 413,
            Self::Expectation(_) => 417,
            Self::HeadTooLong | Self::TooManyHeaders => 431,
            Self::Version => 505,
        }
    }
}

/// Bytes in, requests or a refusal out.
#[derive(Debug, Default)]
pub struct Parser {
    /// What was fed and not yet used; never more than a head or a body.
    buffer: Vec<u8>,
    /// Bytes of an unfinished head that need no second look: none of them ends a line that was not parsed.
    scanned: usize,
    /// A request whose body is not yet there.
    pending: Option<Pending>,
    refused: Option<HttpError>,
}

/// A request whose body is not yet there.
#[derive(Debug)]
struct Pending {
    request: Request,
    length: usize,
    wants_continue: bool,
}

impl Parser {
    /// A parser before its first byte.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many more bytes it takes now: never zero after [`Parser::next_request`] said `Ok(None)`.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.refused.is_some() {
            return 0;
        }
        let whole = self.pending.as_ref().map_or(MAX_HEAD, |p| p.length);
        whole.saturating_sub(self.buffer.len())
    }

    /// Takes bytes: as many as there is room for; says how many it took.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.buffer.extend_from_slice(&bytes[..count]);
        count
    }

    /// Whether a request has begun that is not yet whole.
    #[must_use]
    pub fn mid_request(&self) -> bool {
        self.pending.is_some() || !self.buffer.is_empty()
    }

    /// Whether the client waits for `100 Continue` before it sends its body. True once for a request.
    pub fn take_continue(&mut self) -> bool {
        self.pending
            .as_mut()
            .is_some_and(|p| std::mem::take(&mut p.wants_continue))
    }

    /// The next whole request, or `None` where more bytes are needed.
    ///
    /// # Errors
    /// [`HttpError`]; then the same at every further call, and no byte more is taken.
    pub fn next_request(&mut self) -> Result<Option<Request>, HttpError> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        self.advance().inspect_err(|error| {
            self.refused = Some(error.clone());
            self.buffer = Vec::new();
            self.pending = None;
        })
    }

    fn advance(&mut self) -> Result<Option<Request>, HttpError> {
        if self.pending.is_none() {
            self.pending = self.head()?;
        }
        match self.pending.take_if(|p| p.length <= self.buffer.len()) {
            None => Ok(None),
            Some(Pending {
                mut request,
                length,
                ..
            }) => {
                let rest = self.buffer.split_off(length);
                request.body = std::mem::replace(&mut self.buffer, rest);
                Ok(Some(request))
            }
        }
    }

    /// Parses a head, if it is whole, and takes it from the buffer.
    fn head(&mut self) -> Result<Option<Pending>, HttpError> {
        if self.scanned == 0 {
            // Empty lines before a request are allowed (RFC 9112, 2.2) and belong to none.
            let blank = self.buffer.iter().take_while(|b| b"\r\n".contains(b));
            let blank = blank.count();
            self.buffer.drain(..blank);
        }
        let fresh = &self.buffer[self.scanned..];
        let newline = fresh.iter().rposition(|b| *b == b'\n');
        let lines = newline.map_or(0, |at| self.scanned + at + 1);
        self.scanned = self.buffer.len();
        if lines == 0 {
            return self.not_yet();
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        match head.parse(&self.buffer[..lines]) {
            Ok(httparse::Status::Complete(length)) => {
                let pending = pending(&head)?;
                self.buffer.drain(..length);
                self.scanned = 0;
                Ok(Some(pending))
            }
            Ok(httparse::Status::Partial) => self.not_yet(),
            Err(httparse::Error::TooManyHeaders) => Err(HttpError::TooManyHeaders),
            Err(httparse::Error::Version) => Err(HttpError::Version),
            Err(error) => Err(HttpError::Syntax(error)),
        }
    }

    fn not_yet(&self) -> Result<Option<Pending>, HttpError> {
        if self.buffer.len() < MAX_HEAD {
            Ok(None)
        } else {
            Err(HttpError::HeadTooLong)
        }
    }
}

/// What a head says.
fn pending(head: &httparse::Request<'_, '_>) -> Result<Pending, HttpError> {
    // HTTP/1.0 closes unless it says otherwise; a client that says so gets no more than it asked for.
    let mut keep_alive = head.version == Some(1);
    let mut length = None;
    let mut wants_continue = false;
    for header in head.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("Content-Length") {
            if length.is_some() {
                return Err(HttpError::ContentLengthTwice);
            }
            length = Some(content_length(header.value)?);
        } else if is("Transfer-Encoding") {
            return Err(HttpError::TransferEncoding);
        } else if is("Connection") {
            if has_token(header.value, "close") {
                keep_alive = false;
            }
        } else if is("Expect") {
            if !header.value.eq_ignore_ascii_case(b"100-continue") {
                return Err(HttpError::Expectation(shown(header.value)));
            }
            wants_continue = true;
        }
    }
    let method = match head.method.unwrap_or_default() {
        "GET" => Method::Get,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        other => {
            // The answer to a HEAD has no body, to a CONNECT no end: close rather than guess.
            keep_alive = false;
            Method::Other(other.to_owned())
        }
    };
    let length = length.unwrap_or(0);
    Ok(Pending {
        request: Request {
            method,
            path: absolute_path(head.path.unwrap_or_default()).to_owned(),
            body: Vec::new(),
            keep_alive,
        },
        length,
        wants_continue: wants_continue && length > 0,
    })
}

fn content_length(value: &[u8]) -> Result<usize, HttpError> {
    let wrong = || HttpError::ContentLength(shown(value));
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).map_err(|_| wrong())?;
    if !digits {
        return Err(wrong());
    }
    // A number past u64 is a number all the same, and too much.
    let length = text.parse().unwrap_or(u64::MAX);
    match usize::try_from(length) {
        Ok(length) if length <= MAX_BODY => Ok(length),
        _ => Err(HttpError::BodyTooLong(length)),
    }
}

fn has_token(value: &[u8], token: &str) -> bool {
    value
        .split(|b| *b == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// The path of a target that may be a whole URI (RFC 9112, 3.2.2).
fn absolute_path(target: &str) -> &str {
    match target.strip_prefix("http://") {
        None => target,
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
    }
}

/// A stranger's bytes in an error: what identifies them and no more.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(32)]).into_owned()
}

#[cfg(test)]
mod tests;
