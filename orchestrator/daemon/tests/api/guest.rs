//! What is done inside Linux guests: programs, files, signals.

use abi::agent::frame::Kind;
use abi::agent::message::Message;
use abi::agent::reply::{Exit, Reply};
use api::{Attach, ErrorCode, Exec, Session};
use daemon::agent::frames::{FrameReader, send};
use futures::stream;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};

use crate::harness::Daemon;

struct Joined {
    reader: FrameReader<ReadHalf<Session>>,
    writer: WriteHalf<Session>,
}

impl Joined {
    fn new(session: Session) -> Self {
        let (reader, writer) = split(session);
        let reader = FrameReader::new(reader);
        Self { reader, writer }
    }

    async fn send(&mut self, message: Message<'_>) {
        send(&mut self.writer, &message).await.unwrap();
    }

    async fn next(&mut self) -> Message<'_> {
        self.reader.next().await.unwrap().expect("a message")
    }
}

async fn exec(daemon: &Daemon, words: &[&str]) -> Joined {
    let exec = Exec {
        command: words.iter().map(ToString::to_string).collect(),
        stdin: true,
        ..Exec::default()
    };
    let mut joined = Joined::new(daemon.client().exec("web", &exec).await.unwrap());
    assert_eq!(
        joined.next().await,
        Message::Reply(Reply::Started { pid: 9 })
    );
    joined
}

#[tokio::test]
async fn a_programs_streams_and_its_exit_come_through() {
    let daemon = Daemon::with_linux().await;
    daemon.ready("web", "").await;
    let mut cat = exec(&daemon, &["cat"]).await;
    for word in [&b"one"[..], b"two"] {
        cat.send(Message::Stdin(word)).await;
        assert_eq!(cat.next().await, Message::Stdout(word));
    }
    // The end of the input is not the end of the connection.
    cat.send(Message::Eof).await;
    assert_eq!(cat.next().await, Message::Exit(Exit::Code(0)));
    assert_eq!(cat.reader.next().await.unwrap(), None);
    let mut exit = exec(&daemon, &["exit", "42"]).await;
    assert_eq!(exit.next().await, Message::Stderr(b"bye"));
    assert_eq!(exit.next().await, Message::Exit(Exit::Code(42)));
    let missing = Exec {
        command: vec!["missing".to_owned()],
        ..Exec::default()
    };
    let refusal = daemon.client().exec("web", &missing).await.unwrap_err();
    let refusal = refusal.refusal().unwrap();
    assert_eq!(refusal.code, ErrorCode::NotFound);
    assert!(refusal.message.contains("no program missing"));
    let attached = daemon
        .client()
        .attach("web", &Attach::default())
        .await
        .unwrap();
    let mut attached = Joined::new(attached);
    assert!(matches!(attached.next().await, Message::Reply(_)));
    attached.send(Message::Stdin(b"hello")).await;
    assert_eq!(attached.next().await, Message::Stdout(b"hello"));
}

#[tokio::test]
async fn much_data_goes_through_and_comes_back_whole() {
    let daemon = Daemon::with_linux().await;
    daemon.ready("web", "").await;
    let mut cat = exec(&daemon, &["cat"]).await;
    let part: Vec<u8> = (0..50_000_u32).map(|n| n as u8).collect();
    const PARTS: usize = 400;
    let writing = async {
        for _ in 0..PARTS {
            send(&mut cat.writer, &Message::Stdin(&part)).await.unwrap();
        }
        send(&mut cat.writer, &Message::Eof).await.unwrap();
    };
    let reading = async {
        let mut bytes = 0;
        loop {
            match cat.reader.next().await.unwrap().unwrap() {
                Message::Stdout(came) => {
                    assert_eq!(came, part);
                    bytes += came.len();
                }
                Message::Exit(Exit::Code(0)) => return bytes,
                other => panic!("{other:?}"),
            }
        }
    };
    let ((), bytes) = tokio::join!(writing, reading);
    assert_eq!(bytes, PARTS * part.len());
}

#[tokio::test]
async fn a_hundred_programs_run_at_once() {
    let daemon = Daemon::with_linux().await;
    daemon.ready("web", "").await;
    let all = (0..100).map(|_| async {
        let mut cat = exec(&daemon, &["cat"]).await;
        cat.send(Message::Stdin(b"x")).await;
        assert_eq!(cat.next().await, Message::Stdout(b"x"));
        cat
    });
    let mut all = futures::future::join_all(all).await;
    for cat in &mut all {
        cat.send(Message::Eof).await;
        assert_eq!(cat.next().await, Message::Exit(Exit::Code(0)));
    }
}

#[tokio::test]
async fn a_client_that_goes_takes_its_connection_to_the_agent_with_it() {
    let daemon = Daemon::with_linux().await;
    daemon.ready("web", "").await;
    drop(exec(&daemon, &["hold"]).await);
    daemon.says("web", "hold is over").await;
    // One that does not read holds up the program and nobody else; then it goes.
    let mut yes = exec(&daemon, &["yes"]).await;
    assert!(matches!(yes.next().await, Message::Stdout(_)));
    let mut cat = exec(&daemon, &["cat"]).await;
    cat.send(Message::Eof).await;
    assert_eq!(cat.next().await, Message::Exit(Exit::Code(0)));
    drop(yes);
    daemon.says("web", "nobody reads yes").await;
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection() {
    let daemon = Daemon::with_linux().await;
    daemon.ready("web", "").await;
    let mut garbage = exec(&daemon, &["garbage"]).await;
    match garbage.next().await {
        Message::Error(failure) => assert!(failure.message.contains("nonsense"), "{failure}"),
        other => panic!("{other:?}"),
    }
    // A client may not say everything that a host may.
    let mut cat = exec(&daemon, &["cat"]).await;
    cat.send(Message::Data(b"x")).await;
    assert!(matches!(cat.reader.next().await, Ok(None) | Err(_)));
    let mut cat = exec(&daemon, &["cat"]).await;
    cat.writer
        .write_all(&[Kind::Stdin as u8, 0, 0, 0, 0, 0, 0, 0x7f])
        .await
        .unwrap();
    assert!(matches!(cat.reader.next().await, Ok(None) | Err(_)));
}

#[tokio::test]
async fn files_are_copied_in_and_out() {
    let daemon = Daemon::with_linux().await;
    daemon.ready("web", "").await;
    let client = daemon.client();
    let archive = || stream::iter((0..10).map(|_| Ok(vec![b't'; 100_000].into())));
    client.copy_in("web", "/there", archive()).await.unwrap();
    daemon.says("web", "unpacked 1000000").await;
    let refusal = client
        .copy_in("web", "/nowhere", archive())
        .await
        .unwrap_err();
    assert_eq!(refusal.refusal().unwrap().code, ErrorCode::NotFound);
    let mut out = client.copy_out("web", "/there").await.unwrap();
    let mut bytes = 0;
    while let Some(part) = out.next().await.unwrap() {
        bytes += part.len();
    }
    assert_eq!(bytes, 3000);
    let refusal = client.copy_out("web", "/nowhere").await.unwrap_err();
    assert_eq!(refusal.refusal().unwrap().code, ErrorCode::NotFound);
    assert_eq!(client.stat("web", "/there", true).await.unwrap().size, 5);
}

#[tokio::test]
async fn signals_and_counters_have_their_ways() {
    let daemon = Daemon::with_linux().await;
    daemon.ready("web", "").await;
    let client = daemon.client();
    client.signal("web", "SIGHUP").await.unwrap();
    daemon.says("web", "signal 1").await;
    let refusal = client.signal("web", "SIGNOTHING").await.unwrap_err();
    assert!(refusal.to_string().contains("SIGNOTHING"));
    let stats = client.stats("web").await.unwrap();
    assert!(stats.guest.is_some() && stats.host_memory_bytes.is_some());
    client.kill("web").await.unwrap();
    let refusal = client.stats("web").await.unwrap_err();
    assert_eq!(refusal.refusal().unwrap().code, ErrorCode::Conflict);
    let refusal = client.signal("web", "HUP").await.unwrap_err();
    assert_eq!(refusal.refusal().unwrap().code, ErrorCode::Conflict);
}
