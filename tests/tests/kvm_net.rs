//! A Linux guest and the host, by sockets and by a network.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use tests::linux::Init;
use tests::monitor::Vm;
use tests::network::{self, ip};
use tests::place;
use vmm::backend::tap::{self, TapError};
use vmm::boot::linux;
use vmm::host;
use vmm::meter::Counter;

/// Where ring 0 is emulated a boot takes many seconds, and those of a loaded host are long.
const DEADLINE: Duration = Duration::from_secs(400);
/// Bytes that go each way by vsock.
const BYTES: usize = 2 << 20;
/// And by TCP, which costs a guest much more where ring 0 is emulated.
const TCP_BYTES: usize = 64 << 10;

/// Bytes that differ from place to place.
fn text(bytes: usize) -> Vec<u8> {
    (0..bytes as u32 / 4)
        .flat_map(|i| i.wrapping_mul(0x9E37_79B9).to_le_bytes())
        .collect()
}

/// Says everything, and wants to hear it again; gives the time that it took.
fn hears_itself<S: Read + Send>(
    bytes: usize,
    mut from: S,
    mut to: impl Write + Send,
    end: impl FnOnce() + Send,
) -> Duration {
    let said = text(bytes);
    let began = Instant::now();
    let heard = std::thread::scope(|scope| {
        scope.spawn(|| {
            to.write_all(&said).expect("the guest takes all");
            end();
        });
        let mut heard = Vec::new();
        from.read_to_end(&mut heard)
            .expect("the guest says it again");
        heard
    });
    assert!(
        heard == said,
        "{} of {} bytes, or others",
        heard.len(),
        said.len()
    );
    began.elapsed()
}

fn echoes() {
    ip("tuntap add dev tap0 mode tap vnet_hdr");
    ip("address add 10.9.0.1/24 dev tap0");
    ip("link set tap0 up");
    let tap = tap::open("tap0").expect("a tap that is there is opened");
    let busy = tap::open("tap0").expect_err("and no second time");
    assert!(
        matches!(&busy, TapError::Busy(name) if name == "tap0"),
        "{busy}"
    );
    let dir = tempfile::tempdir().expect("there is room");
    let path = dir.path().join("v");
    let listener = UnixListener::bind(&path).expect("there is room");

    let by_vsock = {
        let mut address = [0; 16];
        address[0] = 40;
        address[4..8].copy_from_slice(&1024_u32.to_le_bytes());
        address[8..12].fill(0xFF);
        address
    };
    let by_tcp = {
        let mut address = [0; 16];
        address[0] = 2;
        address[2..4].copy_from_slice(&7_u16.to_be_bytes());
        address
    };
    let init = Init::default()
        .address("eth0", [10, 9, 0, 2])
        .echo(&by_tcp, "by tcp\n")
        .echo(&by_vsock, "by vsock\n")
        // What a closed connection still owes its peer goes out while the guest lives.
        .wait()
        .exit(42);
    let emulated = host::probe().expect("there is KVM").ring0_emulated;
    let mut vm = Vm::of_file(&place::kernel())
        .memory_mib(128)
        .cmdline(&linux::words(emulated))
        .initrd(&init)
        .net(tap)
        .vsock(listener)
        .deadline(DEADLINE)
        .start()
        .expect("a monitor starts");

    vm.console_shows("by tcp");
    let host = TcpStream::connect("10.9.0.2:7").expect("the guest listens");
    let end = || host.shutdown(Shutdown::Write).expect("it is connected");
    let took = hears_itself(TCP_BYTES, &host, &host, end);
    println!("{TCP_BYTES} bytes to and fro by TCP: {took:?}");

    vm.console_shows("by vsock");
    let mut host = UnixStream::connect(&path).expect("the monitor listens");
    host.write_all(b"CONNECT 1024\n").expect("it takes this");
    let mut answer = [0; 14];
    host.read_exact(&mut answer).expect("the guest accepts");
    assert_eq!(&answer, b"OK 1073741824\n");
    let end = || host.shutdown(Shutdown::Write).expect("it is connected");
    let took = hears_itself(BYTES, &host, &host, end);
    println!("{BYTES} bytes to and fro by vsock: {took:?}");

    vm.type_in("all of it\n");
    let ended = vm.wait();
    let ended = ended.exited(42);
    let reading = ended.reading.as_ref().expect("there is a meter");
    for counter in [Counter::VsockSent, Counter::VsockReceived] {
        assert_eq!(reading.counter(counter), BYTES as u64);
    }
    for counter in [Counter::NetSentBytes, Counter::NetReceivedBytes] {
        assert!(reading.counter(counter) > TCP_BYTES as u64);
    }
    println!(
        "frames received {}, sent {}, dropped {}",
        reading.counter(Counter::NetReceived),
        reading.counter(Counter::NetSent),
        reading.counter(Counter::NetDropped)
    );
    assert_eq!(reading.counter(Counter::VsockConnections), 1);
    assert_eq!(reading.counter(Counter::DriverErrors), 0);
    assert_eq!(reading.counter(Counter::NetErrors), 0);
}

#[test]
fn a_guest_says_again_what_it_hears_by_sockets_and_by_its_network() {
    network::own(echoes);
}
