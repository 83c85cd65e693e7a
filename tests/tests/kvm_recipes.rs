//! Every recipe that comes with Shoal: built, run in a VM, and its program used by a client on the host.
//!
//! Packages are fetched and guests boot, minutes each: `cargo ci recipes` runs these, `cargo ci test` does not.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tests::ogg;
use tests::shoal::Shoal;

/// Builds `recipe`, runs it with `port` published, and waits until its program takes connections. Gives the host's port.
fn serve(shoal: &Shoal, recipe: &str, memory: &str, port: u16) -> u16 {
    build(shoal, recipe);
    let begun = Instant::now();
    let publish = format!("127.0.0.1:0:{port}");
    let create = ["create", "--wait=ready", "--timeout", "1500s"];
    let rest = ["--name", recipe, "--memory", memory, "-p", &publish, recipe];
    shoal.ok(&[&create[..], &rest].concat());
    println!("{recipe}: agent answers after {:.1?}", begun.elapsed());
    shoal.published(recipe, port)
}

fn build(shoal: &Shoal, recipe: &str) {
    let begun = Instant::now();
    shoal.ok(&["image", "build", recipe]);
    println!("{recipe}: built in {:.1?}", begun.elapsed());
}

/// Asks until there is an answer: nothing announces that a server in a guest listens.
fn answer<T>(shoal: &Shoal, vm: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            println!("{vm}: its program answers {:.1?} later", begun.elapsed());
            return answer;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(600),
            "{vm} does not answer; its console:\n{}",
            shoal.ok(&["logs", vm])
        );
        thread::sleep(Duration::from_millis(200));
    }
}

/// The body of what a web server answers with status 200.
fn page(port: u16, path: &str) -> Option<String> {
    let mut server = connect(port)?;
    write!(server, "GET {path} HTTP/1.0\r\nHost: shoal\r\n\r\n").ok()?;
    let mut answer = String::new();
    server.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}

fn connect(port: u16) -> Option<TcpStream> {
    let server = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let patience = Some(Duration::from_secs(60));
    server.set_read_timeout(patience).ok()?;
    Some(server)
}

/// Runs a program of the host, which must succeed, and gives what it printed.
fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}

/// Many requests by ApacheBench; every one must be answered as the first was.
fn bench(port: u16, path: &str, requests: u32) {
    let url = format!("http://127.0.0.1:{port}{path}");
    let said = tool(
        "ab",
        &[
            "-q",
            "-s",
            "120",
            "-c",
            "8",
            "-n",
            &requests.to_string(),
            &url,
        ],
    );
    let figure = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("ab says no {name}:\n{said}"))
            .to_owned()
    };
    let failed = figure("Failed requests:");
    // The length of a page that names its process differs from one to the next; nothing else may.
    assert!(
        failed.ends_with(" 0") || said.contains("Connect: 0, Receive: 0, Length:"),
        "{said}"
    );
    assert!(!said.contains("Non-2xx"), "{said}");
    assert!(
        figure("Complete requests:").ends_with(&format!(" {requests}")),
        "{said}"
    );
    println!("{path}: {}", figure("Requests per second:"));
}

#[test]
#[ignore = "minutes; `cargo ci recipes` runs it"]
fn apache_serves_files_and_programs_that_fork() {
    let shoal = Shoal::start();
    let port = serve(&shoal, "apache", "128M", 80);
    let first = answer(&shoal, "apache", || page(port, "/"));
    assert!(first.contains("Apache answers"), "{first}");
    let program = page(port, "/cgi-bin/fork?shoal").expect("a program answers");
    assert!(program.starts_with("process "), "{program}");
    assert!(program.trim_end().ends_with("for shoal"), "{program}");
    bench(port, "/", 400);
    bench(port, "/cgi-bin/fork", 24);
    shoal.ok(&["rm", "--force", "apache"]);
}

#[test]
#[ignore = "minutes; `cargo ci recipes` runs it"]
fn nginx_serves_files() {
    let shoal = Shoal::start();
    let port = serve(&shoal, "nginx", "128M", 80);
    let first = answer(&shoal, "nginx", || page(port, "/"));
    assert!(first.contains("nginx answers"), "{first}");
    bench(port, "/", 400);
    shoal.ok(&["rm", "--force", "nginx"]);
}

#[test]
#[ignore = "minutes; `cargo ci recipes` runs it"]
fn icecast_streams_to_twenty_listeners_without_a_gap() {
    const LISTENERS: usize = 20;
    const SECONDS: f64 = 20.0;
    let shoal = Shoal::start();
    let port = serve(&shoal, "icecast2", "128M", 8000);
    let tune_in = || {
        let mut server = connect(port)?;
        write!(server, "GET /tone.ogg HTTP/1.0\r\nHost: shoal\r\n\r\n").ok()?;
        let mut server = BufReader::new(server);
        let mut line = String::new();
        server.read_line(&mut line).ok()?;
        if !line.contains(" 200 ") {
            return None;
        }
        while line != "\r\n" {
            line.clear();
            server.read_line(&mut line).ok()?;
        }
        Some(server)
    };
    let first = answer(&shoal, "icecast2", tune_in);
    let others = (1..LISTENERS).map(|_| tune_in().expect("there is room for more"));
    let listeners: Vec<_> = std::iter::once(first).chain(others).collect();
    let heard: Vec<ogg::Heard> = thread::scope(|scope| {
        let listen = |from| scope.spawn(move || ogg::listen(from, SECONDS));
        let threads: Vec<_> = listeners.into_iter().map(listen).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a listener does not panic"))
            .map(|heard| heard.expect("a stream without a gap"))
            .collect()
    });
    let pages: usize = heard.iter().map(|heard| heard.pages).sum();
    println!("{LISTENERS} listeners heard {SECONDS} s each, {pages} pages, none missing");
    shoal.ok(&["rm", "--force", "icecast2"]);
}

#[test]
#[ignore = "minutes; `cargo ci recipes` runs it"]
fn mariadb_keeps_a_transaction_over_a_stop_and_a_start() {
    let shoal = Shoal::start();
    let port = serve(&shoal, "mariadb", "256M", 3306);
    let allow = "create database shop; create user 'host'@'%' identified by 'shoal'; grant all on shop.* to 'host'@'%'";
    answer(&shoal, "mariadb", || {
        let done = shoal.vmctl(&["exec", "mariadb", "mariadb", "-e", allow]);
        (done.status == Some(0)).then_some(())
    });
    let by_host = |port: u16, sql: &str| {
        let port = format!("--port={port}");
        let who = [
            "--host=127.0.0.1",
            &port,
            "--user=host",
            "--password=shoal",
            "-N",
            "shop",
            "-e",
            sql,
        ];
        tool("mariadb", &who)
    };
    by_host(
        port,
        "create table sold (id int primary key, what varchar(20)) engine=innodb; \
         begin; insert into sold values (1, 'a net'), (2, 'a boat'); commit; \
         begin; insert into sold values (3, 'nothing'); rollback",
    );
    shoal.ok(&["stop", "--time", "120", "mariadb"]);
    let begun = Instant::now();
    shoal.ok(&["start", "mariadb"]);
    let kept = answer(&shoal, "mariadb", || {
        connect(port).and_then(|mut server| server.read_exact(&mut [0; 5]).ok())?;
        Some(by_host(port, "select * from sold order by id"))
    });
    println!("mariadb: answers {:.1?} after its start", begun.elapsed());
    assert_eq!(kept, "1\ta net\n2\ta boat\n");
    shoal.ok(&["rm", "--force", "mariadb"]);
}

#[test]
#[ignore = "minutes; `cargo ci recipes` runs it"]
fn memcached_keeps_values() {
    let shoal = Shoal::start();
    let port = serve(&shoal, "memcached", "128M", 11211);
    let said = answer(&shoal, "memcached", || {
        let mut server = connect(port)?;
        server
            .write_all(b"set a 0 0 5\r\nshoal\r\nget a\r\nquit\r\n")
            .ok()?;
        let mut answer = String::new();
        server.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    });
    assert_eq!(said, "STORED\r\nVALUE a 0 5\r\nshoal\r\nEND\r\n");
    shoal.ok(&["rm", "--force", "memcached"]);
}

/// Runs a VM of `recipe` to its end and gives what its program printed.
fn run(shoal: &Shoal, recipe: &str, memory: &str, args: &[&str]) -> String {
    build(shoal, recipe);
    let begun = Instant::now();
    let words = [
        "run",
        "--rm",
        "--timeout",
        "1500s",
        "--memory",
        memory,
        recipe,
    ];
    let printed = shoal.ok(&[&words[..], args].concat());
    println!("{recipe}: ran in {:.1?}: {printed}", begun.elapsed());
    printed
}

#[test]
#[ignore = "minutes; `cargo ci recipes` runs it"]
fn java_runs_a_program() {
    let shoal = Shoal::start();
    let printed = run(&shoal, "openjdk", "256M", &[]);
    assert!(printed.ends_with("the sum is 166666833333"), "{printed}");
}

#[test]
#[ignore = "minutes; `cargo ci recipes` runs it"]
fn octave_inverts_a_matrix() {
    let shoal = Shoal::start();
    let printed = run(&shoal, "octave", "512M", &["invert.m"]);
    let error = printed.rsplit("error of the inverse: ").next();
    let error: f64 = error
        .and_then(|word| word.trim().parse().ok())
        .unwrap_or_else(|| panic!("{printed}"));
    assert!(error < 1e-6, "{printed}");
}
