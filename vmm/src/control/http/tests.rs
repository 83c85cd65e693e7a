//! What the parser takes, and what it refuses.

use super::*;
use proptest::prelude::*;

/// Feeds `bytes` in pieces that end at `cuts`, as a server would; says what came out.
fn run(bytes: &[u8], cuts: &[usize]) -> (Vec<Request>, Option<HttpError>) {
    let mut parser = Parser::new();
    let mut requests = Vec::new();
    let mut ends: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        let mut piece = &bytes[start..end];
        start = end;
        while !piece.is_empty() {
            let taken = parser.feed(piece);
            piece = &piece[taken..];
            assert!(parser.buffer.len() <= MAX_BODY.max(MAX_HEAD));
            loop {
                match parser.next_request() {
                    Ok(Some(request)) => requests.push(request),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(parser.room(), 0);
                        assert_eq!(parser.next_request(), Err(error.clone()));
                        return (requests, Some(error));
                    }
                }
            }
            assert!(parser.room() > 0, "neither room nor a refusal");
        }
    }
    (requests, None)
}

fn one(text: &str) -> Request {
    let (requests, error) = run(text.as_bytes(), &[]);
    assert_eq!((requests.len(), &error), (1, &None), "{text:?}");
    requests.into_iter().next().unwrap()
}

fn refused(text: &str) -> HttpError {
    let (requests, error) = run(text.as_bytes(), &[]);
    assert_eq!(requests, [], "{text:?}");
    error.unwrap_or_else(|| panic!("{text:?} was not refused"))
}

#[test]
fn a_request_as_curl_sends_it() {
    let request = one(
        "PUT /machine-config HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8\r\n\
         Accept: */*\r\ncontent-length: 4\r\n\r\nbody",
    );
    assert_eq!(request.method, Method::Put);
    assert_eq!(request.path, "/machine-config");
    assert_eq!(request.body, b"body");
    assert!(request.keep_alive);
}

#[test]
fn a_target_may_be_a_whole_uri() {
    assert_eq!(
        one("GET http://localhost/a/b HTTP/1.1\r\n\r\n").path,
        "/a/b"
    );
    assert_eq!(one("GET http://localhost HTTP/1.1\r\n\r\n").path, "/");
}

#[test]
fn requests_may_follow_one_another_unasked() {
    let text = "PUT /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi\r\nGET /b HTTP/1.1\r\n\r\n";
    let (requests, error) = run(text.as_bytes(), &[]);
    let paths: Vec<&str> = requests.iter().map(|r| r.path.as_str()).collect();
    assert_eq!((paths, error), (vec!["/a", "/b"], None));
}

#[test]
fn a_connection_closes_when_the_client_says_so() {
    assert!(!one("GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n").keep_alive);
    assert!(!one("GET / HTTP/1.0\r\n\r\n").keep_alive);
    assert!(!one("HEAD / HTTP/1.1\r\n\r\n").keep_alive);
}

#[test]
fn a_gibibyte_is_refused_unread() {
    let head = "PUT / HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n";
    assert_eq!(refused(head), HttpError::BodyTooLong(1 << 30));
    assert!(refused(head).to_string().contains("1073741824 bytes"));
    let more = "PUT / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n";
    assert_eq!(refused(more).status(), 413);
}

#[test]
fn the_largest_body_is_taken() {
    let head = format!("PUT / HTTP/1.1\r\nContent-Length: {MAX_BODY}\r\n\r\n");
    let text = head.clone() + &"x".repeat(MAX_BODY);
    assert_eq!(one(&text).body.len(), MAX_BODY);
}

#[test]
fn a_refusal_has_its_status_and_value() {
    let put = |headers: &str| refused(&format!("PUT / HTTP/1.1\r\n{headers}\r\n\r\n"));
    assert_eq!(put("Transfer-Encoding: chunked").status(), 411);
    assert_eq!(put("Expect: miracles").status(), 417);
    assert!(put("Expect: miracles").to_string().contains("miracles"));
    for length in ["", "-1", "+1", "1, 1", "0x10", "1 1"] {
        let error = put(&format!("Content-Length: {length}"));
        assert_eq!(error, HttpError::ContentLength(length.to_owned()));
        assert_eq!(error.status(), 400);
    }
    let twice = put("Content-Length: 1\r\nContent-Length: 1");
    assert_eq!(twice, HttpError::ContentLengthTwice);
    assert_eq!(put(&"a: b\r\n".repeat(65)).status(), 431);
    assert_eq!(put(&format!("a: {}", "b".repeat(MAX_HEAD))).status(), 431);
    assert_eq!(refused(&"x".repeat(MAX_HEAD)).status(), 431);
    assert_eq!(refused("GET / HTTP/2.0\r\n\r\n").status(), 505);
    assert_eq!(refused("\0\u{1}\u{2}\r\n").status(), 400);
    assert_eq!(refused("PUT / HTTP/1.1\r\nno colon\r\n").status(), 400);
}

#[test]
fn a_client_is_told_to_go_on_once() {
    let mut parser = Parser::new();
    parser.feed(b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(parser.next_request(), Ok(None));
    assert!(parser.take_continue());
    assert!(!parser.take_continue());
    assert_eq!(parser.feed(b"hi!"), 2, "room for the body and no more");
    assert_eq!(parser.next_request().unwrap().unwrap().body, b"hi");
    assert!(!parser.mid_request());
}

/// Bytes that are near to HTTP, so that they get far.
fn nearly_http() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        4 => (0_usize..300).prop_map(|n| {
            let head = format!("PUT /x HTTP/1.1\r\nContent-Length: {n}\r\n\r\n");
            [head.into_bytes(), vec![b'b'; n]].concat()
        }),
        1 => Just(b"PATCH /vm HTTP/1.0\nExpect: 100-continue\ncontent-length: 3\n\n{}\n".to_vec()),
        1 => (0_usize..9000).prop_map(|n| [b"GET /".to_vec(), vec![b'a'; n]].concat()),
        1 => Just(b"\r\n\r\n\n\r".to_vec()),
        1 => Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        1 => Just(b"X-A: b\r\n".repeat(40)),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn how_bytes_are_cut_changes_nothing(
        bytes in nearly_http(),
        cuts in proptest::collection::vec(any::<usize>(), 0..30),
    ) {
        let whole = run(&bytes, &[]);
        prop_assert_eq!(&run(&bytes, &cuts), &whole);
        let each: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(&run(&bytes, &each), &whole);
    }

    #[test]
    fn any_bytes_are_answered_or_refused(bytes: Vec<u8>, cuts: Vec<usize>) {
        run(&bytes, &cuts);
    }
}
