//! What the server answers.

use serde::Serialize;

/// A status, and a JSON body where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    body: Option<Vec<u8>>,
}

/// Firecracker's error body.
#[derive(Serialize)]
struct Fault<'a> {
    fault_message: &'a str,
}

impl Response {
    /// Bytes that tell a client to send its body.
    pub const CONTINUE: &'static [u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

    /// 204: done, and nothing to say.
    #[must_use]
    pub fn no_content() -> Self {
        Self {
            status: 204,
            body: None,
        }
    }

    /// 200, with a value.
    #[must_use]
    pub fn json(value: &impl Serialize) -> Self {
        Self::with(200, value)
    }

    /// An error, as Firecracker words it: `{"fault_message": "..."}`.
    #[must_use]
    pub fn fault(status: u16, message: &str) -> Self {
        Self::with(
            status,
            &Fault {
                fault_message: message,
            },
        )
    }

    fn with(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self {
                status,
                body: Some(body),
            },
            // Not seen with the types of this API; a client shall still have an answer.
            Err(_) => Self {
                status: 500,
                body: None,
            },
        }
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Its body; empty where there is none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }

    /// Appends it as it goes over the wire.
    pub fn write(&self, out: &mut Vec<u8>, keep_alive: bool) {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {} {}\r\nServer: Shoal\r\nConnection: {connection}\r\n",
            self.status,
            reason(self.status)
        );
        out.extend_from_slice(head.as_bytes());
        // 204 has no body and must not speak of one (RFC 9110, 8.6).
        if self.status != 204 {
            let body = self.body();
            let length = format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            out.extend_from_slice(length.as_bytes());
            out.extend_from_slice(body);
        } else {
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}
