//! Clients that send nonsense, too much, or nothing.

use api::ErrorBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::harness::{Daemon, content, request};

/// Sends bytes, and reads all that is answered.
async fn raw(daemon: &Daemon, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(daemon.socket()).await.unwrap();
    // It may be refused before it is all sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn post(daemon: &Daemon, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    let answer = raw(daemon, format!("{head}{body}").as_bytes()).await;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let error: ErrorBody = serde_json::from_str(body).unwrap();
    (status, error.error.message)
}

#[tokio::test]
async fn nonsense_is_refused_and_the_daemon_goes_on() {
    let daemon = Daemon::start().await;
    assert!(
        raw(&daemon, b"\0\x01\x02garbage\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400")
    );
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    assert!(
        raw(&daemon, long.as_bytes())
            .await
            .starts_with("HTTP/1.1 4")
    );
    let huge = b"POST /v1/vms HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n{";
    let answer = raw(&daemon, huge).await;
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("1073741824"),
        "{answer}"
    );
    for (body, message) in [
        ("", "missing field `image`"),
        ("{", "EOF"),
        (r#"{"image":"app","turbo":1}"#, "turbo"),
        (r#"{"image":"app","vcpus":0}"#, "not 0"),
        (r#"{"image":"app","vcpus":1000}"#, "not 1000"),
        (r#"{"image":"app","memory_mib":10485760}"#, "10485760"),
        (r#"{"image":"app","name":"../x"}"#, "../x"),
    ] {
        let (status, said) = post(&daemon, "/v1/vms", body).await;
        assert!(
            status == 400 && said.contains(message),
            "{body}: {status} {said}"
        );
    }
    let (status, said) = post(&daemon, "/v1/vms", r#"{"image":"nothing"}"#).await;
    assert!(status == 404 && said.contains("\"nothing\""), "{said}");
    let (status, said) = post(&daemon, "/v1/nowhere", "").await;
    assert!(status == 404 && said.contains("/v1/nowhere"), "{said}");
    let (status, said) = post(&daemon, "/v1/host", "").await;
    assert!(status == 405 && said.contains("POST"), "{said}");
    let (status, said) = post(&daemon, "/v1/vms/web/stop?x=%zz", "").await;
    assert!(status == 404 && said.contains("web"), "{said}");
    assert!(daemon.client().list(true).await.unwrap().is_empty());
    assert_eq!(
        std::fs::read_dir(daemon.dir.path().join("vms"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn an_image_that_cannot_boot_is_refused_and_not_kept() {
    let daemon = Daemon::start().await;
    let truncated = crate::harness::image()[..100].to_vec();
    let refusal = daemon
        .client()
        .add_image("bad", content(truncated))
        .await
        .unwrap_err();
    assert_eq!(
        refusal.refusal().unwrap().code,
        api::ErrorCode::Unacceptable
    );
    let refusal = daemon
        .client()
        .add_image("../x", content(vec![]))
        .await
        .unwrap_err();
    assert!(refusal.to_string().contains("../x"));
    assert_eq!(daemon.client().images().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_refusal_is_heard_however_much_was_still_to_be_sent() {
    use futures::{StreamExt, stream};
    let daemon = Daemon::start().await;
    // More than a socket holds: the daemon has closed before it is all written, if it ever is.
    let chunk = bytes::Bytes::from(vec![0; 64 << 10]);
    let endless = || stream::repeat(chunk.clone()).map(Ok);
    let name = daemon.client().add_image("Not A Name", endless()).await;
    let refusal = name.unwrap_err();
    let refusal = refusal.refusal().expect("an answer");
    assert_eq!(refusal.code, api::ErrorCode::BadRequest);
    assert!(refusal.message.contains("Not A Name"), "{refusal:?}");
    let nobody = daemon.client().console("nobody", endless()).await;
    let refusal = nobody.unwrap_err();
    let refusal = refusal.refusal().expect("an answer");
    assert_eq!(refusal.code, api::ErrorCode::NotFound);
    let large = daemon
        .client()
        .create(&api::CreateVm {
            args: vec!["x".repeat(8 << 20)],
            ..request("web", &[])
        })
        .await
        .unwrap_err();
    let refusal = large.refusal().expect("an answer");
    assert_eq!(refusal.code, api::ErrorCode::TooLarge);
}

#[tokio::test]
async fn a_client_that_leaves_during_a_create_leaves_the_vm() {
    let daemon = Daemon::start().await;
    let mut events = daemon.client().events(None).await.unwrap();
    let body = serde_json::to_string(&request("web", &[])).unwrap();
    let head = format!(
        "POST /v1/vms HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = UnixStream::connect(daemon.socket()).await.unwrap();
    stream
        .write_all(format!("{head}{body}").as_bytes())
        .await
        .unwrap();
    let created = events.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(created.vm.unwrap().name, "web");
    let vm = daemon
        .client()
        .wait("web", api::Until::Running)
        .await
        .unwrap();
    assert_eq!(vm.state, api::VmState::Running);
}

#[tokio::test]
async fn every_documented_path_is_there() {
    let daemon = Daemon::start().await;
    let document = daemon.client().openapi().await.unwrap();
    let mut count = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods
            .as_object()
            .unwrap()
            .keys()
            .filter(|m| *m != "parameters")
        {
            if path == "/v1/events" {
                continue;
            }
            let method = method.to_uppercase();
            let path = path.replace("{vm}", "nobody").replace("{image}", "nobody");
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            );
            let answer = raw(&daemon, request.as_bytes()).await;
            let missing =
                answer.contains("there is nothing at") || answer.starts_with("HTTP/1.1 405");
            assert!(!missing, "{method} {path}: {answer}");
            count += 1;
        }
    }
    assert!(count >= 19, "{count}");
}
