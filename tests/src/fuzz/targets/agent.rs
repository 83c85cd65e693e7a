//! The agent's protocol: any bytes, cut in any way, give the same messages and the same refusal; what is read can be written, and is
//! read again as it was.

use abi::agent::frame::{Decoder, HEADER, Kind, PAYLOAD_MAX};
use abi::agent::message::Message;

use crate::fuzz::Target;

pub(super) const TARGET: Target = Target {
    name: "agent",
    about: "the protocol between a host and the agent in a Linux guest",
    seeds: || {
        let start = br#"{"start":{"generation":"a","root":{"disk":"root","filesystem":"erofs","writes":{"disk":{"disk":"disk"}}},
            "volumes":[{"disk":"vol-0","path":"/data","populate":true}],"hostname":"web","network":{"interfaces":
            [{"mac":"02:00:00:00:00:01","addresses":["10.0.0.2/24","fd00::2/64"],"gateway_v4":"10.0.0.1","mtu":1500}],
            "dns":{"servers":["10.0.0.1"],"search":["a.test"]},"hosts":[{"address":"10.0.0.3","names":["db"]}]},
            "clock":{"seconds":1,"nanoseconds":2},"entropy":[1,2,3],"program":{"argv":["sh"],"env":["A=b"],"user":"www:www"},
            "restart":{"when":{"on_failure":{"max":3}},"first_ms":1,"limit_ms":2},"stop_signal":15}}"#;
        let exec = br#"{"exec":{"program":{"argv":["ls","-l"],"tty":{"size":{"rows":24,"cols":80}},"stdin":true}}}"#;
        let reply = br#"{"status":{"generation":"a","state":{"running":{"pid":2}},"restarts":0,"uptime_ms":1}}"#;
        let error = br#"{"code":"not_found","message":"there is no disk"}"#;
        vec![
            [frame(Kind::Hello, br#"{"version":1}"#), frame(Kind::Request, start)].concat(),
            [frame(Kind::Request, exec), frame(Kind::Stdin, b"text"), frame(Kind::Eof, b"")].concat(),
            [frame(Kind::Reply, reply), frame(Kind::Stdout, b"text"), frame(Kind::Exit, br#"{"code":3}"#)].concat(),
            [frame(Kind::Resize, br#"{"rows":1,"cols":2}"#), frame(Kind::Signal, br#"{"signal":9}"#)].concat(),
            [frame(Kind::Dropped, br#"{"bytes":7}"#), frame(Kind::Error, error)].concat(),
            [
                frame(Kind::Request, br#"{"health":{"probe":{"http":{"port":80,"path":"/"}},"timeout_ms":5}}"#),
                frame(Kind::Reply, br#"{"stat":{"kind":"link","size":1,"mode":511,"uid":0,"gid":0,"modified":-1,"target":"/a"}}"#),
                frame(Kind::Request, br#"{"copy_in":{"path":"/a"}}"#),
                frame(Kind::Request, b"\"status\""),
            ]
            .concat(),
        ]
    },
    words: &[
        b"\x01\0\0\0",
        b"\x02\0\0\0\x08\0\0\0\"status\"",
        b"\x14\0\0\0\0\0\0\0",
        b"\0\0\x01\0",
        b"\x01\0\x01\0",
        b"\"shutdown\":{\"timeout_ms\":",
        b"\"attach\":{",
        b"\"add_entropy\":{\"bytes\":[",
        b"\"set_clock\":",
        b"\"signal\":",
        b"\"copy_out\":",
        b"\"always\"",
        b"null",
        b"18446744073709551616",
        b"-1",
        b"\\u0000",
        b"{",
        b"}",
    ],
    run: |input| {
        let whole = read(input, input.len().max(1));
        // The first byte says how to cut, so that one input is always cut alike.
        let cut = input.first().map_or(1, |byte| 1 + usize::from(*byte % 64));
        assert_eq!(read(input, cut), whole, "cut into {cut} bytes");
        // What came out of it is a stream of its own that says the same.
        assert_eq!(read(&whole.0, 4096).0, whole.0);
    },
};

fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind as u8, 0, 0, 0];
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// What a connection gives that gets `input` in pieces: its messages, written again, and why it ended.
fn read(input: &[u8], cut: usize) -> (Vec<u8>, Option<String>) {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    for mut piece in input.chunks(cut) {
        loop {
            let frame = match decoder.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(frame)) => frame,
                Err(error) => return (out, Some(error.to_string())),
            };
            assert!(frame.payload.len() <= PAYLOAD_MAX);
            match Message::decode(frame) {
                // JSON with little space may grow where it is written in full.
                Ok(message) => match message.encode(&mut out) {
                    Ok(()) => {}
                    Err(error) => return (out, Some(error.to_string())),
                },
                Err(error) => return (out, Some(error.to_string())),
            }
        }
        assert!(piece.is_empty(), "a decoder that wants more has taken all");
        assert!(
            out.len() <= (input.len() + HEADER) * 64,
            "a message grows without end"
        );
    }
    (out, None)
}
