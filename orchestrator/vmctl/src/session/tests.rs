//! A session against a daemon of our own.

use abi::agent::frame::{Decoder, Kind};
use abi::agent::message::{Dropped, Message, Signal};
use abi::agent::reply::{Code, Exit, Failure, Reply};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::relay::Streams;
use super::*;

const COOKED: Manner = Manner {
    tty: false,
    raw: false,
    keys: Keys::NONE,
};

fn raw() -> Manner {
    Manner {
        tty: true,
        raw: true,
        keys: Keys::default(),
    }
}

fn frames(messages: &[Message<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        message.encode(&mut bytes).unwrap();
    }
    bytes
}

/// Kinds and payloads of all frames that a user's side sent.
fn sent(mut bytes: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let mut decoder = Decoder::new();
    let mut sent = Vec::new();
    while let Some(frame) = decoder.next(&mut bytes).unwrap() {
        sent.push((frame.kind, frame.payload.to_owned()));
    }
    assert!(decoder.is_between_frames());
    sent
}

/// How a session ended, and what was written to the output and the error output.
type Outcome = (Result<End, SessionError>, Vec<u8>, Vec<u8>);

/// A relay that runs, and the ends of it that a test holds.
struct Running {
    daemon: DuplexStream,
    local: UnboundedSender<Local>,
    done: tokio::task::JoinHandle<Outcome>,
}

fn start(manner: Manner, input: Option<DuplexStream>) -> Running {
    let (daemon, ours) = duplex(1 << 20);
    let (local, mut heard) = unbounded_channel();
    let done = tokio::spawn(async move {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let streams = Streams {
            input,
            output: &mut output,
            errors: &mut errors,
        };
        let end = relay(ours, streams, &mut heard, manner, || {}).await;
        (end, output, errors)
    });
    Running {
        daemon,
        local,
        done,
    }
}

/// What becomes of a session in which the daemon says `bytes` and closes.
async fn heard(bytes: &[u8]) -> Outcome {
    let mut running = start(COOKED, None);
    running.daemon.write_all(bytes).await.unwrap();
    drop(running.daemon);
    running.done.await.unwrap()
}

#[tokio::test]
async fn output_comes_out_and_the_status_is_passed_on() {
    let said = frames(&[
        Message::Reply(Reply::Started { pid: 7 }),
        Message::Stdout(b"out"),
        Message::Stderr(b"err"),
        Message::Stdout(b"put"),
        Message::Dropped(Dropped { bytes: 9 }),
        Message::Exit(Exit::Code(3)),
    ]);
    let (end, output, errors) = heard(&said).await;
    assert_eq!(end.unwrap(), End::Exit(Exit::Code(3)));
    assert_eq!(output, b"output");
    assert_eq!(errors, b"errvmctl: 9 bytes of output went by unread\n");
    let killed = frames(&[Message::Exit(Exit::Signal(9))]);
    match heard(&killed).await.0.unwrap() {
        End::Exit(exit) => assert_eq!(exit.status(), 137),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn input_goes_to_the_program_and_then_its_end() {
    let (mut user, input) = duplex(1 << 20);
    let mut running = start(COOKED, Some(input));
    let typed: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    user.write_all(&typed).await.unwrap();
    drop(user);
    let mut bytes = Vec::new();
    while sent(&bytes[..whole(&bytes)])
        .last()
        .is_none_or(|f| f.0 != Kind::Eof)
    {
        assert_ne!(running.daemon.read_buf(&mut bytes).await.unwrap(), 0);
    }
    let sent = sent(&bytes);
    let (eof, stdin) = sent.split_last().unwrap();
    assert!(eof.1.is_empty() && stdin.iter().all(|f| f.0 == Kind::Stdin));
    let payloads: Vec<&[u8]> = stdin.iter().map(|f| &f.1[..]).collect();
    assert_eq!(payloads.concat(), typed);
    // Its output is heard all the same.
    let rest = frames(&[Message::Stdout(b"done"), Message::Exit(Exit::Code(0))]);
    running.daemon.write_all(&rest).await.unwrap();
    let (end, output, _) = running.done.await.unwrap();
    assert_eq!(
        (end.unwrap(), &output[..]),
        (End::Exit(Exit::Code(0)), &b"done"[..])
    );
}

/// How many of `bytes` are whole frames.
fn whole(bytes: &[u8]) -> usize {
    let mut decoder = Decoder::new();
    let (mut input, mut end) = (bytes, 0);
    while let Ok(Some(_)) = decoder.next(&mut input) {
        end = bytes.len() - input.len();
    }
    end
}

#[tokio::test]
async fn the_detach_keys_leave_and_what_was_typed_before_arrives() {
    let (mut user, input) = duplex(64);
    let mut running = start(raw(), Some(input));
    user.write_all(b"ls\r\x10\x11").await.unwrap();
    let (end, ..) = running.done.await.unwrap();
    assert_eq!(end.unwrap(), End::Detached);
    let mut bytes = Vec::new();
    running.daemon.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(sent(&bytes), [(Kind::Stdin, b"ls\r".to_vec())]);
}

#[tokio::test]
async fn signals_are_the_programs_unless_the_terminal_is_raw() {
    let mut running = start(COOKED, None);
    let signal = |number| Local::Signal(number as u8);
    for heard in [signal(libc::SIGUSR1), signal(libc::SIGINT), Local::Resized] {
        running.local.send(heard).unwrap();
    }
    let mut bytes = [0; 1024];
    let mut got = Vec::new();
    while sent(&got[..whole(&got)]).len() < 2 {
        let count = running.daemon.read(&mut bytes).await.unwrap();
        got.extend_from_slice(&bytes[..count]);
    }
    let expected = frames(&[
        Message::Signal(Signal { signal: 10 }),
        Message::Signal(Signal { signal: 2 }),
    ]);
    assert_eq!(
        got, expected,
        "a program without a terminal hears of no size"
    );
    // One that does not end is left.
    running.local.send(signal(libc::SIGINT)).unwrap();
    running.local.send(signal(libc::SIGTERM)).unwrap();
    assert_eq!(running.done.await.unwrap().0.unwrap(), End::Signal(15));

    let running = start(raw(), None);
    running.local.send(signal(libc::SIGHUP)).unwrap();
    assert_eq!(running.done.await.unwrap().0.unwrap(), End::Signal(1));
}

#[tokio::test]
async fn another_size_reaches_a_program_with_a_terminal() {
    let mut running = start(raw(), None);
    running.local.send(Local::Resized).unwrap();
    let mut bytes = Vec::new();
    while whole(&bytes) == 0 {
        assert_ne!(running.daemon.read_buf(&mut bytes).await.unwrap(), 0);
    }
    assert_eq!(sent(&bytes)[0].0, Kind::Resize);
}

#[tokio::test]
async fn a_guest_that_does_not_read_does_not_keep_signals_from_us() {
    let (mut user, input) = duplex(4 << 20);
    let running = start(COOKED, Some(input));
    user.write_all(&vec![0; 3 << 20]).await.unwrap();
    for _ in 0..3 {
        running.local.send(Local::Signal(2)).unwrap();
    }
    assert_eq!(running.done.await.unwrap().0.unwrap(), End::Signal(2));
}

#[tokio::test]
async fn what_a_broken_daemon_sends_is_told_for_what_it_is() {
    let started = frames(&[Message::Reply(Reply::Ready)]);
    let cut = heard(&started).await.0.unwrap_err();
    assert!(matches!(cut, SessionError::Cut) && cut.is_lost());
    let half = heard(&started[..started.len() - 1]).await.0.unwrap_err();
    assert!(matches!(half, SessionError::CutFrame), "{half:?}");
    for nonsense in [
        &[99, 0, 0, 0, 0, 0, 0, 0][..],
        &[17, 1, 0, 0, 0, 0, 0, 0],
        &[17, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF],
        b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
    ] {
        let error = heard(nonsense).await.0.unwrap_err();
        assert!(matches!(error, SessionError::Frame(_)), "{error:?}");
    }
    let error = heard(b"\x17\0\0\0\x02\0\0\0{}").await.0.unwrap_err();
    assert!(matches!(error, SessionError::Message(_)), "{error:?}");
    for misplaced in [
        Message::Stdin(b"x"),
        Message::Eof,
        Message::Reply(Reply::Done),
    ] {
        let error = heard(&frames(&[misplaced])).await.0.unwrap_err();
        assert!(matches!(error, SessionError::Unexpected(_)), "{error:?}");
    }
    let failure = Failure::new(Code::NotFound, "no such program");
    let error = heard(&frames(&[Message::Error(failure)]))
        .await
        .0
        .unwrap_err();
    assert_eq!(error.to_string(), "no such program");
}

proptest! {
    #[test]
    fn whatever_comes_ends_a_session_in_one_way(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        kind in proptest::sample::select(Kind::ALL.to_vec()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut frame = abi::agent::frame::header(kind, bytes.len()).unwrap().to_vec();
        frame.extend_from_slice(&bytes);
        for input in [&bytes, &frame] {
            let (end, ..) = runtime.block_on(heard(input));
            prop_assert!(end.is_err() || kind == Kind::Exit);
        }
    }
}
