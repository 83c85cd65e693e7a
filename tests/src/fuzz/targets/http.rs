//! HTTP: any bytes, cut in any way, give the same requests and the same refusal.

use vmm::control::http::{HttpError, Parser, Request};

use crate::fuzz::Target;

pub(super) const TARGET: Target = Target {
    name: "http",
    about: "requests of the monitor's control API",
    seeds: || {
        vec![
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            b"PUT /machine-config HTTP/1.1\r\nContent-Length: 32\r\nContent-Type: application/json\r\n\r\n\
              {\"vcpu_count\":1,\"mem_size_mib\":64}GET /version HTTP/1.0\r\n\r\n"
                .to_vec(),
            b"PATCH /vm HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 18\r\n\r\n\
              {\"state\":\"Paused\"}"
                .to_vec(),
        ]
    },
    words: &[
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Connection: close",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"http://a/b",
        b"51200",
        b"51201",
        b"18446744073709551616",
        b"+1",
        b"\0",
        b"\xff",
    ],
    run: |input| {
        let whole = read(input, input.len().max(1));
        // The first byte says how to cut, so that one input is always cut alike.
        let cut = input.first().map_or(1, |byte| 1 + usize::from(*byte % 64));
        assert_eq!(read(input, cut), whole, "cut into {cut} bytes");
    },
};

/// What a connection gives that gets `input` in pieces.
fn read(input: &[u8], cut: usize) -> (Vec<Request>, Option<HttpError>) {
    let mut parser = Parser::new();
    let mut requests = Vec::new();
    for mut piece in input.chunks(cut) {
        while !piece.is_empty() {
            let room = parser.room();
            assert!(room > 0, "a parser that waits takes nothing");
            let taken = parser.feed(piece);
            assert!(taken > 0 && taken <= room);
            piece = &piece[taken..];
            loop {
                match parser.next_request() {
                    Ok(Some(request)) => requests.push(request),
                    Ok(None) => break,
                    Err(error) => {
                        assert!((400..600).contains(&error.status()));
                        return (requests, Some(error));
                    }
                }
            }
        }
    }
    (requests, None)
}
