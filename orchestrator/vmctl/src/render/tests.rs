//! What people see.

use api::{
    Address, AgentState, BootPhase, Cause, Event, EventKind, HealthState, Image, ImageBoot,
    LinuxVm, Metrics, Network, Outcome, Stats, VcpuTime, Vm, VmRef, VmState, Volume,
};
use jiff::{SignedDuration, Timestamp};

use super::{event, images, networks, ports, stats, vm, vms, volumes};
use crate::guest_status::exit_status;
use crate::output::Style;

const PLAIN: Style = Style(false);

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_millis(milliseconds)
}

/// Created at the epoch, running 4.1 ms later.
fn running() -> Vm {
    Vm {
        id: "3f2a9c11d0e4".into(),
        name: "quiet-otter".into(),
        state: VmState::Running,
        outcome: None,
        image: "hello".into(),
        digest: "ab".repeat(32),
        args: vec![],
        env: [].into(),
        vcpus: 1,
        memory_mib: 64,
        timeout_ms: None,
        auto_remove: false,
        created_at: at(0),
        started_at: Some(Timestamp::UNIX_EPOCH + SignedDuration::from_micros(4100)),
        ended_at: None,
        monitor_pid: Some(77),
        metrics: None,
        kind: api::GuestKind::Libos,
        linux: None,
    }
}

/// The same with what Linux guests have.
fn linux() -> Vm {
    let linux = LinuxVm {
        command: vec!["apache2".into(), "-k".into()],
        user: "www-data".into(),
        workdir: "/".into(),
        hostname: "web".into(),
        tty: false,
        stdin_open: false,
        init: api::Init::Agent,
        disk_mib: 8192,
        addresses: vec![Address {
            network: "default".into(),
            ipv4: "10.88.0.2".parse().unwrap(),
            ipv6: "fd00::2".parse().unwrap(),
            mac: "02:00:00:00:00:01".into(),
        }],
        ports: vec!["8080:80".parse().unwrap()],
        volumes: vec!["data:/var/lib:ro".parse().unwrap()],
        restart: api::Restart::default(),
        restarts: 2,
        stop_signal: "TERM".into(),
        stop_timeout_ms: 10_000,
        agent: AgentState::Running,
        agent_message: Some("a\x1b[2Jb".into()),
        health_probe: None,
        health: Some(HealthState::Unhealthy),
    };
    Vm {
        linux: Some(linux),
        kind: api::GuestKind::Linux,
        ..running()
    }
}

fn ended(cause: Cause, status: u32, state: VmState, message: &str) -> Vm {
    Vm {
        state,
        outcome: Some(Outcome {
            cause,
            status,
            detail: String::new(),
            message: message.into(),
        }),
        ended_at: Some(at(2000)),
        monitor_pid: None,
        ..running()
    }
}

#[test]
fn ps_is_a_table_as_dockers() {
    let failed = ended(
        Cause::TripleFault,
        0,
        VmState::Failed,
        "triple fault at 0x100000",
    );
    let text = vms::table(&[running(), failed, linux()], at(7000), PLAIN);
    let expected = "\
ID             NAME          IMAGE   STATUS                                      PORTS          VCPUS   MEMORY   BOOT    CREATED
3f2a9c11d0e4   quiet-otter   hello   running 6s                                  -              1       64M      4.1ms   7s ago
3f2a9c11d0e4   quiet-otter   hello   failed: triple fault at 0x100000 5s ago     -              1       64M      4.1ms   7s ago
3f2a9c11d0e4   quiet-otter   hello   running 6s (unhealthy)                      8080->80/tcp   1       64M      4.1ms   7s ago
";
    assert_eq!(squeeze(&text), squeeze(expected));
    assert_eq!(vms::table(&[], at(0), PLAIN).lines().count(), 1);
}

/// Columns are as wide as they need; how wide is not the point.
fn squeeze(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|l| {
            l.split("   ")
                .map(str::trim)
                .filter(|c| !c.is_empty())
                .collect()
        })
        .collect()
}

#[test]
fn colours_are_for_terminals() {
    assert!(!vms::table(&[running()], at(0), PLAIN).contains('\x1b'));
    assert!(vms::table(&[running()], at(0), Style(true)).contains("\x1b[38;5;10m"));
}

#[test]
fn a_status_says_how_and_since_when() {
    let now = at(7000);
    let exited = ended(Cause::Exit, 3, VmState::Exited, "exited with status 3");
    assert_eq!(vms::status(&exited, now), "exited (3) 5s ago");
    let stopped = ended(Cause::Stopped, 0, VmState::Exited, "stopped");
    assert_eq!(vms::status(&stopped, now), "stopped 5s ago");
    let late = ended(Cause::Deadline, 0, VmState::Failed, "its time was over");
    assert_eq!(vms::status(&late, now), "failed: its time was over 5s ago");
    let long = ended(Cause::Failed, 0, VmState::Failed, &"é".repeat(200));
    assert!(vms::status(&long, now).chars().count() < 80);
    let starting = Vm {
        state: VmState::Starting,
        started_at: None,
        ..running()
    };
    assert_eq!(vms::status(&starting, now), "starting");
    assert_eq!(vms::boot_time(&starting), None);
}

#[test]
fn an_end_is_an_exit_status() {
    for (cause, status, code) in [
        (Cause::Exit, 0, 0),
        (Cause::Exit, 101, 101),
        (Cause::Exit, 256, 255),
        (Cause::Reset, 0, 0),
        (Cause::Deadline, 0, 124),
        (Cause::TripleFault, 0, 126),
        (Cause::Halted, 0, 126),
        (Cause::Unsupported, 0, 126),
        (Cause::Failed, 0, 126),
        (Cause::Stopped, 0, 137),
    ] {
        let vm = ended(cause, status, VmState::Exited, "");
        assert_eq!(exit_status(&vm), code, "{cause:?}");
    }
}

#[test]
fn a_page_has_the_boot_by_phase() {
    let vm = Vm {
        args: vec!["--wait".into(), "two words".into()],
        env: [("HOME".into(), "/".into())].into(),
        timeout_ms: Some(10_000),
        metrics: Some(Metrics {
            boot: [("launched", 0), ("main", 512), ("entered", 2600)]
                .map(|(phase, at_us)| BootPhase {
                    phase: phase.into(),
                    at_us,
                })
                .into(),
            counters: [("exits_pio".into(), 3), ("exits_mmio".into(), 0)].into(),
            vcpus: vec![VcpuTime {
                guest_ns: 1_500_000,
                monitor_ns: 20_000,
            }],
            console_bytes: 812,
        }),
        ..running()
    };
    let page = vm::page(&vm, at(7000), PLAIN);
    for line in [
        "quiet-otter  3f2a9c11d0e4",
        "  status      running 6s",
        "  arguments   [\"--wait\", \"two words\"]",
        "  variable    HOME=/",
        "  time limit  10.00s",
        "  monitor     pid 77",
        "  main              512 µs  +512",
        "  entered          2600 µs  +2088",
        "  0           1.5ms in the guest, 20µs in the monitor",
        "  exits_pio                3",
        "  console                  812 B",
    ] {
        assert!(
            page.lines().any(|l| l == line),
            "{line:?} is not in\n{page}"
        );
    }
    assert!(
        !page.contains("exits_mmio"),
        "what did not happen is not told:\n{page}"
    );
}

#[test]
fn a_linux_guests_page_has_its_addresses_and_nothing_that_a_terminal_obeys() {
    let page = vm::page(&linux(), at(7000), PLAIN);
    for line in [
        "  command     [\"apache2\", \"-k\"]",
        "  disk        8G",
        "  network     default  10.88.0.2  fd00::2  02:00:00:00:00:01",
        "  port        80/tcp -> *:8080",
        "  volume      data:/var/lib:ro",
        "  restarts    2",
        "  agent       running: a\u{FFFD}[2Jb",
        "  health      unhealthy",
    ] {
        assert!(
            page.lines().any(|l| l == line),
            "{line:?} is not in\n{page}"
        );
    }
    let mut booting = linux();
    booting.linux.as_mut().unwrap().agent = AgentState::Connecting;
    assert_eq!(vms::status(&booting, at(7000)), "running 6s (booting)");
}

#[test]
fn ports_are_written_as_dockers() {
    let ports = ["127.0.0.1:53:53/udp", "[::1]:80:80"].map(|p| p.parse().unwrap());
    assert_eq!(
        ports::short(&ports),
        "127.0.0.1:53->53/udp, [::1]:80->80/tcp"
    );
    assert_eq!(ports::host(&ports[1]), "[::1]:80");
}

#[test]
fn networks_and_volumes_are_lines_and_pages() {
    let network = Network {
        name: "front".into(),
        ipv4: "10.88.1.0/24".into(),
        ipv6: "fd00:1::/64".into(),
        mtu: 1500,
        bridge: None,
        vms: vec!["a".into(), "b".into()],
    };
    let table = networks::table(std::slice::from_ref(&network), PLAIN);
    assert_eq!(
        squeeze(&table)[1],
        ["front", "10.88.1.0/24", "fd00:1::/64", "-", "2"]
    );
    let page = networks::page(&network, PLAIN);
    assert!(page.contains("  mtu         1500\n"), "{page}");
    assert!(page.contains("  vms         a, b\n"), "{page}");
    let volume = Volume {
        name: "data".into(),
        size_mib: 8192,
        used_bytes: 3 << 19,
        created_at: at(0),
        used_by: vec![],
    };
    let table = volumes::table(std::slice::from_ref(&volume), at(60_000), PLAIN);
    assert_eq!(squeeze(&table)[1], ["data", "8G", "1.5 MiB", "-", "1m ago"]);
    assert!(volumes::page(&volume, at(0), PLAIN).contains("  vms         none\n"));
}

#[test]
fn what_a_vm_uses_is_told_by_two_looks() {
    let look = |cpu_ns| Stats {
        cpu_ns,
        host_memory_bytes: Some(32 << 20),
        counters: [("net_received_bytes".into(), 2048)].into(),
        ..Stats::default()
    };
    let second = std::time::Duration::from_secs(1);
    let sample = stats::Sample::new(
        &running(),
        &look(1_500_000_000),
        Some((&look(1_000_000_000), second)),
    );
    assert_eq!(sample.cpu_percent, Some(50.0));
    let table = stats::table(&[sample], PLAIN);
    let expected = [
        "quiet-otter",
        "50.0%",
        "-",
        "32.0 MiB",
        "2.0 KiB / 0 B",
        "0 B / 0 B",
        "-",
        "-",
    ];
    assert_eq!(squeeze(&table)[1], expected);
    // It was started again between the two.
    let again = stats::Sample::new(&running(), &look(5), Some((&look(9), second)));
    assert_eq!(again.cpu_percent, None);
    let guest = api::GuestReport {
        memory_total_bytes: 128 << 20,
        memory_available_bytes: 96 << 20,
        load: [0.25, 0.0, 0.0],
        threads: 40,
        ..api::GuestReport::default()
    };
    let with_guest = Stats {
        guest: Some(guest),
        ..look(0)
    };
    let table = stats::table(&[stats::Sample::new(&running(), &with_guest, None)], PLAIN);
    assert_eq!(squeeze(&table)[1][1..3], ["-", "32.0 MiB / 128.0 MiB"]);
    assert!(table.contains("0.25"), "{table}");
}

#[test]
fn an_image_is_a_line_a_name() {
    let image = Image {
        digest: "cd".repeat(32),
        names: vec!["hello".into(), "hello:v2".into()],
        bytes: 3 << 19,
        kind: "elf".into(),
        added_at: at(0),
        used_by: 1,
        boot: Some(ImageBoot {
            entry: 0x10_0000,
            memory_bytes: 5 << 20,
        }),
        config: None,
    };
    let nameless = Image {
        names: vec![],
        used_by: 0,
        boot: None,
        ..image.clone()
    };
    let text = images::table(&[image.clone(), nameless.clone()], at(60_000), PLAIN);
    assert_eq!(
        squeeze(&text)[1..],
        [
            ["hello", "cdcdcdcdcdcd", "elf", "1.5 MiB", "1", "1m ago"],
            ["hello:v2", "cdcdcdcdcdcd", "elf", "1.5 MiB", "1", "1m ago"],
            ["<none>", "cdcdcdcdcdcd", "elf", "1.5 MiB", "0", "1m ago"],
        ]
    );
    let page = images::page(&image, at(60_000), PLAIN);
    assert!(
        page.contains(&image.digest) && page.contains("by 1 VM"),
        "{page}"
    );
    for line in [
        "  entry       0x100000",
        "  memory      more than 5.0 MiB  (5242880 bytes)",
    ] {
        assert!(
            page.lines().any(|l| l == line),
            "{line:?} is not in\n{page}"
        );
    }
    let page = images::page(&nameless, at(0), PLAIN);
    assert!(
        page.starts_with("<none>") && !page.contains("entry"),
        "{page}"
    );
}

#[test]
fn an_event_is_a_line() {
    let vm = ended(Cause::Exit, 3, VmState::Exited, "exited with status 3");
    let ended = Event {
        seq: 9,
        time: at(1500),
        kind: EventKind::Ended,
        vm: Some(VmRef {
            id: vm.id,
            name: vm.name,
        }),
        outcome: vm.outcome,
    };
    assert_eq!(
        event::line(&ended),
        "1970-01-01T00:00:01.500000Z  ended     3f2a9c11d0e4  quiet-otter  exited with status 3"
    );
}
