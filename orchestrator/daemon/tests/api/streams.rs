//! Consoles and events.

use api::{Bytestream, LogsQuery};
use futures::channel::mpsc;

use crate::harness::Daemon;

async fn read_until(output: &mut Bytestream, wanted: &str) {
    let mut text = String::new();
    while !text.contains(wanted) {
        let bytes = output.next().await.unwrap().expect("the output goes on");
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
}

#[tokio::test]
async fn what_is_typed_comes_back_and_following_ends_with_the_vm() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    daemon.running("web", &["echo"]).await;
    let follow = LogsQuery {
        follow: true,
        tail: None,
    };
    let mut output = client.logs("web", follow).await.unwrap();
    let mut other = client.logs("web", follow).await.unwrap();
    let (typing, input) = mpsc::unbounded();
    let typed = tokio::spawn({
        let client = client.clone();
        async move { client.console("web", input).await }
    });
    for line in ["one\n", "two\n"] {
        typing.unbounded_send(Ok(line.into())).unwrap();
        read_until(&mut output, line).await;
        read_until(&mut other, line).await;
    }
    drop(typing);
    typed.await.unwrap().unwrap();
    let tail = LogsQuery {
        follow: false,
        tail: Some(1),
    };
    let mut last = client.logs("web", tail).await.unwrap();
    assert_eq!(last.next().await.unwrap().unwrap(), "two\n");
    assert!(last.next().await.unwrap().is_none());
    client.kill("web").await.unwrap();
    assert!(output.next().await.unwrap().is_none());
    assert!(other.next().await.unwrap().is_none());
    let mut after = client.logs("web", follow).await.unwrap();
    read_until(&mut after, "one\ntwo\n").await;
    assert!(after.next().await.unwrap().is_none());
    let nobody = client.console("web", futures::stream::empty()).await;
    assert!(
        nobody
            .unwrap_err()
            .refusal()
            .unwrap()
            .message
            .contains("nobody reads")
    );
}

#[tokio::test]
async fn a_guest_that_does_not_read_holds_up_only_who_types() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    daemon.running("web", &[]).await;
    let flood = futures::stream::iter((0..1000).map(|_| Ok(vec![b'x'; 4096].into())));
    let typed = tokio::spawn({
        let client = client.clone();
        async move { client.console("web", flood).await }
    });
    client.kill("web").await.unwrap();
    assert!(typed.await.unwrap().is_err());
}
