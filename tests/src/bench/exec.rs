//! What a VM's owner waits for: `vmctl exec` of nothing, a hundred at once, and much through a program's streams.
//!
//! The host's own answer to the same is beside each: a process that does nothing, and a pipe through `cat`.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::{Bench, Figure, Samples};
use crate::shoal::Shoal;

pub(super) const BENCH: Bench = Bench {
    name: "exec",
    about: "vmctl exec of nothing, 100 at once, and 1 GiB in and out again, beside the host's own processes and pipes",
    run,
};

const RUNS: usize = 20;
const AT_ONCE: usize = 100;
/// How much goes through.
const MUCH: u64 = 1 << 30;
/// What the host's pipe is measured with is what the guest's streams are.
const PIECE: usize = 1 << 20;

fn run(runs: Option<usize>, _: &mut Vec<String>) -> Result<Vec<Figure>> {
    let shoal = Shoal::start();
    shoal.import_box();
    // What is measured is over long before; a VM that nobody removes is.
    let create = ["create", "--wait=ready", "--timeout", "3h"];
    shoal.ok(&[&create[..], &["--memory", "256M", "--name", "box", "box"]].concat());

    let (mut guest, mut host) = <(Samples, Samples)>::default();
    for _ in 0..runs.unwrap_or(RUNS) {
        guest.add_ms(ends(shoal.vmctl_command(&["exec", "box", "true"]), 0)?);
        host.add_ms(ends(Command::new("true"), 0)?);
    }
    let mut figures = vec![
        guest
            .figure("exec", "exec of `true`", "ms")
            .beside("a process of the host", host.median()),
    ];

    let begun = Instant::now();
    std::thread::scope(|scope| {
        let one = |n: usize| {
            let say = format!("exit {n}");
            let command = shoal.vmctl_command(&["exec", "box", "sh", "-c", &say]);
            scope.spawn(move || ends(command, n as i32))
        };
        let all: Vec<_> = (0..AT_ONCE).map(one).collect();
        all.into_iter()
            .try_for_each(|thread| thread.join().expect("it does not panic").map(drop))
    })?;
    figures.push(
        Figure::single(
            "exec",
            "  100 at once, each with its own status",
            begun.elapsed().as_secs_f64() * 1e3,
            "ms",
        )
        .of_runs(AT_ONCE),
    );

    let through = |command: Command| -> Result<f64> {
        let begun = Instant::now();
        echoed(command, MUCH)?;
        Ok(MUCH as f64 / (1 << 20) as f64 / begun.elapsed().as_secs_f64())
    };
    let guest = through(shoal.vmctl_command(&["exec", "-i", "box", "cat"]))?;
    let host = through(Command::new("cat"))?;
    figures.push(
        Figure::single("exec", "  1 GiB in and out, the same bytes", guest, "MiB/s")
            .beside("cat on the host", host),
    );
    shoal.ok(&["rm", "--force", "box"]);
    Ok(figures)
}

/// How long a command takes that must end with `status`.
fn ends(mut command: Command, status: i32) -> Result<Duration> {
    let begun = Instant::now();
    let output = command.output()?;
    ensure!(
        output.status.code() == Some(status),
        "{command:?}: {}, not {status}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(begun.elapsed())
}

/// Feeds so many bytes to a program that must say the same ones.
fn echoed(mut command: Command, bytes: u64) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let said = hear(&mut child, bytes);
    if said.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    let (sent, heard) = said?;
    ensure!(status.success(), "{command:?}: {status}");
    ensure!(sent == heard, "other bytes come out than went in");
    Ok(())
}

/// Digests of what went in and of what came out.
fn hear(child: &mut Child, bytes: u64) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut to = child.stdin.take().context("it is a pipe")?;
    let mut from = child.stdout.take().context("it is a pipe")?;
    let writer = std::thread::spawn(move || -> Result<Vec<u8>> {
        let mut digest = Sha256::new();
        let mut state = 0x5348_4F41_u64;
        let mut piece = vec![0; PIECE];
        for _ in 0..bytes / PIECE as u64 {
            // Noise that no two pieces share (xorshift).
            for word in piece.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            to.write_all(&piece)?;
            digest.update(&piece);
        }
        Ok(digest.finalize().to_vec())
    });
    let mut digest = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece)? {
            0 => break,
            count => digest.update(&piece[..count]),
        }
    }
    let sent = writer.join().expect("the writer does not panic")?;
    Ok((sent, digest.finalize().to_vec()))
}
