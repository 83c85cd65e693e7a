//! Files into a guest and out of it, as tar streams.

use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::thread;

use abi::agent::frame::{Kind, PAYLOAD_MAX};
use abi::agent::message::Message;
use abi::agent::reply::{Code, Failure, Reply};
use abi::agent::request::{CopyIn, CopyOut, Request};
use tar::{Archive, Builder, EntryType, Header};

use crate::common::{Agent, Client, Owned, code};

fn text(path: &Path) -> String {
    path.to_str().expect("a plain path").to_owned()
}

/// Sends a tar stream; the agent's answer.
fn copy_in(agent: &Agent, path: &Path, archive: &[u8]) -> Result<(), Failure> {
    let mut client = agent.ask(Request::CopyIn(CopyIn { path: text(path) }));
    match client.next() {
        Some(Owned::Reply(Reply::Ready)) => {}
        Some(Owned::Error(failure)) => return Err(failure),
        other => panic!("{other:?} is no answer"),
    }
    let mut writer = Client::new(client.stream.try_clone().expect("a descriptor"));
    let archive = archive.to_vec();
    let writes = thread::spawn(move || {
        for piece in archive.chunks(PAYLOAD_MAX) {
            writer.send(&Message::Data(piece));
        }
        writer.send(&Message::Eof);
    });
    let answer = match client.next() {
        Some(Owned::Reply(Reply::Done)) => Ok(()),
        Some(Owned::Error(failure)) => Err(failure),
        other => panic!("{other:?} is no end"),
    };
    writes
        .join()
        .expect("the agent hears all of it, wanted or not");
    answer
}

/// The tar stream of a path.
fn copy_out(agent: &Agent, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut client = agent.ask(Request::CopyOut(CopyOut { path: text(path) }));
    let mut archive = Vec::new();
    loop {
        match client.next() {
            Some(Owned::Reply(Reply::Ready)) => {}
            Some(Owned::Bytes(Kind::Data, bytes)) => archive.extend(bytes),
            Some(Owned::Eof) => return Ok(archive),
            Some(Owned::Error(failure)) => return Err(failure),
            other => panic!("{other:?} is no copy"),
        }
    }
}

fn archive(build: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().expect("memory takes all")
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header
}

#[test]
fn a_tree_comes_out_and_goes_in_as_it_was() {
    let agent = Agent::new();
    let from = agent.dir().join("from");
    let long = "long".repeat(60);
    fs::create_dir_all(from.join("sub/deep")).expect("directories can be made");
    fs::create_dir(from.join("empty")).expect("directories can be made");
    let odd = from.join(std::ffi::OsStr::from_bytes(b"odd \n\xff name"));
    fs::write(&odd, "odd").expect("a file can be written");
    fs::write(from.join(&long), "long").expect("a file can be written");
    fs::write(from.join("sub/deep/tool"), vec![7; 200_001]).expect("a file can be written");
    fs::write(from.join("nothing"), "").expect("a file can be written");
    fs::set_permissions(
        from.join("sub/deep/tool"),
        fs::Permissions::from_mode(0o4755),
    )
    .expect("modes can be set");
    fs::set_permissions(from.join("sub"), fs::Permissions::from_mode(0o500))
        .expect("modes can be set");
    std::os::unix::fs::lchown(from.join("nothing"), Some(123), Some(456))
        .expect("tests run as root");
    symlink("../../nowhere", from.join("link")).expect("links can be made");
    fs::hard_link(from.join("nothing"), from.join("other name")).expect("links can be made");
    std::os::unix::net::UnixListener::bind(from.join("socket")).expect("a socket can be made");

    let packed = copy_out(&agent, &from).expect("it is packed");
    let to = agent.dir().join("to");
    fs::create_dir(&to).expect("directories can be made");
    copy_in(&agent, &to, &packed).expect("it is unpacked");

    let to = to.join("from");
    let odd = to.join(odd.file_name().expect("a name"));
    let meta = |path: &str| fs::symlink_metadata(to.join(path)).expect("it is there");
    assert_eq!(fs::read(odd).expect("it is there"), b"odd");
    assert_eq!(fs::read(to.join(&long)).expect("it is there"), b"long");
    assert!(fs::read(to.join("sub/deep/tool")).expect("it is there") == vec![7; 200_001]);
    assert_eq!(meta("sub/deep/tool").mode() & 0o7777, 0o4755);
    assert_eq!(meta("sub").mode() & 0o7777, 0o500);
    assert_eq!((meta("nothing").uid(), meta("nothing").gid()), (123, 456));
    assert_eq!(
        meta("nothing").ino(),
        meta("other name").ino(),
        "one file of two names"
    );
    assert_eq!(
        fs::read_link(to.join("link")).expect("it is there"),
        Path::new("../../nowhere")
    );
    assert!(meta("empty").is_dir());
    assert!(!to.join("socket").exists(), "a socket is nothing by itself");
    // What other programs make of it.
    let listed = Archive::new(Cursor::new(&packed))
        .entries()
        .expect("a tar stream")
        .count();
    assert_eq!(listed, 10);
}

#[test]
fn one_file_is_a_stream_of_one() {
    let agent = Agent::new();
    let path = agent.dir().join("file");
    fs::write(&path, "some text").expect("a file can be written");
    let packed = copy_out(&agent, &path).expect("it is packed");
    let mut packed = Archive::new(Cursor::new(packed));
    let mut entry = packed
        .entries()
        .expect("a tar stream")
        .next()
        .expect("one")
        .expect("well");
    let mut text = String::new();
    entry.read_to_string(&mut text).expect("it can be read");
    assert_eq!(
        (&*entry.path().expect("a path"), &*text),
        (Path::new("file"), "some text")
    );
}

#[test]
fn nothing_is_put_outside_of_the_directory() {
    let agent = Agent::new();
    let (inside, outside) = (agent.dir().join("inside"), agent.dir().join("outside"));
    fs::create_dir(&inside).expect("directories can be made");
    fs::create_dir(&outside).expect("directories can be made");
    let by_name = |name: &str| {
        archive(|builder| {
            let mut header = header(EntryType::Regular, 1);
            // Written past the builder, which refuses such names itself.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder
                .append(&header, &b"x"[..])
                .expect("memory takes all");
        })
    };
    assert_eq!(
        code(copy_in(&agent, &inside, &by_name("../outside/a"))),
        Code::Invalid
    );
    assert_eq!(
        code(copy_in(&agent, &inside, &by_name("sub/../../outside/a"))),
        Code::Invalid
    );
    let by_link = |target: &Path| {
        archive(|builder| {
            builder
                .append_link(&mut header(EntryType::Symlink, 0), "way", target)
                .expect("memory takes all");
            builder
                .append_data(&mut header(EntryType::Regular, 1), "way/a", &b"x"[..])
                .expect("memory takes all");
        })
    };
    assert!(copy_in(&agent, &inside, &by_link(&outside)).is_err());
    fs::remove_file(inside.join("way")).expect("the link itself is allowed");
    assert!(copy_in(&agent, &inside, &by_link(Path::new("../outside"))).is_err());
    let hard = archive(|builder| {
        let target = Path::new("../outside/secret");
        builder
            .append_link(&mut header(EntryType::Link, 0), "mine", target)
            .expect("memory takes all");
    });
    fs::write(outside.join("secret"), "secret").expect("a file can be written");
    assert!(copy_in(&agent, &inside, &hard).is_err());
    let names: Vec<_> = fs::read_dir(&outside)
        .expect("it is there")
        .map(|e| e.expect("an entry").file_name())
        .collect();
    assert_eq!(names, ["secret"]);
    // An absolute name is one within.
    copy_in(&agent, &inside, &by_name("/etc/absolute")).expect("it is unpacked");
    assert_eq!(
        fs::read(inside.join("etc/absolute")).expect("it is there"),
        b"x"
    );
}

#[test]
fn what_is_no_archive_is_refused() {
    let agent = Agent::new();
    let dir = agent.dir();
    assert!(copy_in(&agent, &dir, &[b'x'; 5000]).is_err());
    let whole = archive(|builder| {
        builder
            .append_data(
                &mut header(EntryType::Regular, 100_000),
                "a",
                &[b'x'; 100_000][..],
            )
            .expect("memory takes all");
    });
    assert!(
        copy_in(&agent, &dir, &whole[..50_000]).is_err(),
        "half an archive"
    );
    let device = archive(|builder| {
        builder
            .append_data(&mut header(EntryType::Block, 0), "disk", &b""[..])
            .expect("memory takes all");
    });
    assert_eq!(code(copy_in(&agent, &dir, &device)), Code::Invalid);
    copy_in(&agent, &dir, &[]).expect("nothing is an archive of nothing");
}

#[test]
fn what_is_not_there_is_said() {
    let agent = Agent::new();
    assert_eq!(
        code(copy_out(&agent, Path::new("/no/such"))),
        Code::NotFound
    );
    assert_eq!(
        code(copy_in(&agent, Path::new("/no/such"), &[])),
        Code::NotFound
    );
    assert_eq!(
        code(copy_in(&agent, Path::new("/etc/passwd"), &[])),
        Code::NotDirectory
    );
}
