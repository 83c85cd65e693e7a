//! Linux boots: our kernel, by each way there is into it, with a first file system made here.

use tests::linux::{Init, guest};
use tests::place;
use vmm::outcome::Cause;

#[test]
fn init_runs_and_its_status_comes_back() {
    let init = Init::default()
        .say("hello from init\n")
        .mount("proc", "/proc")
        .show("/proc/sys/kernel/ostype")
        .show("/proc/cmdline")
        .exit(42);
    let linux = guest(&place::kernel(), &init).run();
    linux
        .exited(42)
        .shows("hello from init")
        .shows("Linux\r\n")
        .shows("virtio_mmio.device=4096@0xd0000000:5");
}

#[test]
fn a_bzimage_boots_as_well() {
    let init = Init::default().say("unpacked\n").exit(3);
    let linux = guest(&place::bzimage(), &init).run();
    linux.exited(3).shows("unpacked");
}

#[test]
fn every_processor_comes_up() {
    let init = Init::default()
        .mount("sysfs", "/sys")
        .show("/sys/devices/system/cpu/online")
        .exit(0);
    let linux = guest(&place::kernel(), &init).vcpus(2).run();
    linux.exited(0).shows("0-1\r\n");
}

#[test]
fn a_kernel_without_init_says_so_and_resets() {
    let linux = guest(&place::kernel(), b"no archive").run();
    linux.by(Cause::Reset).shows("Kernel panic");
}

#[test]
fn an_initrd_that_does_not_fit_is_refused() {
    let linux = guest(&place::kernel(), &vec![0; 128 << 20]).run();
    linux
        .by(Cause::Failed)
        .says("the initrd of 134217728 bytes does not fit");
}
