//! A daemon that says what a test wants.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use abi::agent::frame::{Decoder, Kind};
use abi::agent::message::Message;
use tempfile::TempDir;

/// No test waits longer for vmctl.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Listens where vmctl looks for its daemon.
pub(crate) struct Daemon {
    dir: TempDir,
    listener: UnixListener,
}

/// A request, and the connection that it came on.
pub(crate) struct Request {
    /// Method and path.
    pub(crate) line: String,
    /// Its body.
    pub(crate) body: Vec<u8>,
    stream: UnixStream,
}

/// A connection that carries frames.
pub(crate) struct Frames {
    stream: UnixStream,
    decoder: Decoder,
    unread: Vec<u8>,
}

impl Daemon {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("vmd.sock")).unwrap();
        Self { dir, listener }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The next request. Connections that say nothing only look whether somebody is there.
    pub(crate) fn request(&self) -> Request {
        loop {
            let (stream, _) = self.listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            if let Some(request) = read(stream) {
                return request;
            }
        }
    }

    /// The next request, which has to be this one.
    pub(crate) fn expect(&self, line: &str) -> Request {
        let request = self.request();
        assert_eq!(request.line, line);
        request
    }
}

fn read(mut stream: UnixStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        let head = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        if let Some(end) = head {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head
                .lines()
                .filter_map(|l| l.split_once(": "))
                .find(|(key, _)| key.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let line = head.lines().next().unwrap();
                return Some(Request {
                    line: line.trim_end_matches(" HTTP/1.1").to_owned(),
                    body: bytes[end + 4..].to_owned(),
                    stream,
                });
            }
        }
        match stream.read(&mut chunk).unwrap() {
            0 => return None,
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

impl Request {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The rest of a body that comes in chunks, to its end.
    pub(crate) fn chunks(&self) -> Vec<u8> {
        let mut wire = self.body.clone();
        let mut stream = &self.stream;
        let mut body = Vec::new();
        let mut line = |wire: &mut Vec<u8>, count: Option<usize>| loop {
            let end = match count {
                Some(count) => (wire.len() >= count).then_some(count),
                None => wire.windows(2).position(|w| w == b"\r\n").map(|at| at + 2),
            };
            if let Some(end) = end {
                return wire.drain(..end).collect::<Vec<u8>>();
            }
            let mut chunk = [0; 65536];
            let count = stream.read(&mut chunk).unwrap();
            assert_ne!(count, 0, "the body is cut");
            wire.extend_from_slice(&chunk[..count]);
        };
        loop {
            let size = String::from_utf8(line(&mut wire, None)).unwrap();
            let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
            let chunk = line(&mut wire, Some(size + 2));
            if size == 0 {
                return body;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    /// Answers with what is written from here on.
    pub(crate) fn begin(mut self) -> UnixStream {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        self.stream.write_all(head).unwrap();
        self.stream
    }

    pub(crate) fn answer(mut self, status: &str, body: &[u8]) {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        self.stream.write_all(head.as_bytes()).unwrap();
        self.stream.write_all(body).unwrap();
    }

    pub(crate) fn refuse(self, what: &str) {
        let body = format!(r#"{{"error":{{"code":"not_found","message":"there is no {what}"}}}}"#);
        self.answer("404 Not Found", body.as_bytes());
    }

    /// From here on, frames.
    pub(crate) fn upgrade(mut self) -> Frames {
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shoal-agent/1\r\n\r\n";
        self.stream.write_all(head.as_bytes()).unwrap();
        Frames {
            stream: self.stream,
            decoder: Decoder::new(),
            unread: Vec::new(),
        }
    }
}

impl Frames {
    pub(crate) fn say(&mut self, message: &Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame.
    pub(crate) fn hear(&mut self) -> (Kind, Vec<u8>) {
        let mut chunk = [0; 65536];
        loop {
            let mut input = &self.unread[..];
            let frame = self.decoder.next(&mut input).unwrap();
            let frame = frame.map(|frame| (frame.kind, frame.payload.to_owned()));
            let rest = input.to_owned();
            self.unread = rest;
            if let Some(frame) = frame {
                return frame;
            }
            let count = self.stream.read(&mut chunk).unwrap();
            assert_ne!(count, 0, "vmctl went away");
            self.unread.extend_from_slice(&chunk[..count]);
        }
    }

    /// Nothing more comes: vmctl went away.
    pub(crate) fn ends(mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
}
