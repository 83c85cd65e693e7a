//! What a description may say.

use super::*;
use proptest::prelude::*;

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

fn check(json: &str, descriptors: usize) -> Result<Vm, SpecError> {
    Vm::validate(json.as_bytes(), (0..descriptors).map(|_| null()).collect())
}

fn with(change: &str) -> String {
    let base = r#""version":1,"id":"a","vcpus":1,"memory_mib":64,"boot":{"kernel":0}"#;
    let field = change.split(':').next().unwrap();
    let kept: Vec<&str> = base.split(',').filter(|f| !f.starts_with(field)).collect();
    format!("{{{},{change}}}", kept.join(","))
}

fn refusal(change: &str) -> String {
    check(&with(change), 1).unwrap_err().to_string()
}

#[test]
fn the_least_description_is_valid() {
    let vm = check(&with(r#""entropy":true"#), 1).unwrap();
    assert_eq!((vm.vcpus.get(), vm.memory.mib(), vm.entropy), (1, 64, true));
    assert!(vm.console.is_none() && vm.deadline.is_none());
}

#[test]
fn a_refusal_names_the_value() {
    assert!(refusal(r#""vcpus":0"#).contains("1 to 32 vCPUs, not 0"));
    assert!(refusal(r#""vcpus":1000"#).contains("not 1000"));
    assert!(refusal(r#""memory_mib":0"#).contains("not 0"));
    assert!(refusal(r#""memory_mib":10485760"#).contains("not 10485760"));
    assert!(refusal(r#""id":"../x""#).contains("../x"));
    assert!(refusal(r#""id":"""#).contains("1 to 64"));
    assert!(refusal(r#""version":2"#).contains("version 2"));
    assert!(refusal(r#""deadline_ms":0"#).contains("deadline_ms"));
    assert!(refusal(r#""boot":{"kernel":1}"#).contains("descriptor 1"));
    assert!(refusal(r#""boot":{"kernel":0,"args":"a\u0000b"}"#).contains("NUL at byte 1"));
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    assert!(refusal(r#""turbo":true"#).contains("turbo"));
}

#[test]
fn a_field_given_twice_is_refused() {
    let json = r#"{"version":1,"id":"a","vcpus":1,"vcpus":2,"memory_mib":64,"boot":{"kernel":0}}"#;
    assert!(
        check(json, 1)
            .unwrap_err()
            .to_string()
            .contains("duplicate field `vcpus`")
    );
}

#[test]
fn a_descriptor_has_one_use() {
    assert!(refusal(r#""meter":0"#).contains("another field"));
    assert!(
        check(&with(r#""entropy":false"#), 2)
            .unwrap_err()
            .to_string()
            .contains("1 descriptors")
    );
}

#[test]
fn a_device_that_cannot_be_is_refused_by_its_value() {
    assert!(refusal(r#""disks":[{"id":"a/b","file":1}]"#).contains("a/b"));
    let twice = r#""disks":[{"id":"a","file":1},{"id":"a","file":2}]"#;
    assert!(
        check(&with(twice), 3)
            .unwrap_err()
            .to_string()
            .contains("id a")
    );
    for mac in [
        "01:00:00:00:00:01",
        "00:00:00:00:00:00",
        "2:0:0:0:0:1",
        "02:00:00:00:00:01:02",
        "+2:00:00:00:00:01",
    ] {
        let net = format!(r#""nets":[{{"id":"a","tap":1,"mac":"{mac}"}}]"#);
        let error = check(&with(&net), 2).unwrap_err().to_string();
        assert!(error.contains(mac), "{error}");
    }
    for (cid, valid) in [(2, false), (3, true), (u32::MAX, false)] {
        let vsock = format!(r#""vsock":{{"cid":{cid},"listener":1}}"#);
        assert_eq!(check(&with(&vsock), 2).is_ok(), valid, "{cid}");
    }
    let bucket = r#""disks":[{"id":"a","file":1,"rate":{"ops":{"size":0,"refill_time":5}}}]"#;
    assert!(
        check(&with(bucket), 2)
            .unwrap_err()
            .to_string()
            .contains("not 0 and 5")
    );
}

#[test]
fn a_vm_has_the_devices_of_its_description() {
    let devices = r#""boot":{"kernel":0,"initrd":1},"disks":[{"id":"root","file":2,"read_only":true}],
        "nets":[{"id":"eth0","tap":3,"mac":"02:00:00:00:00:01","mtu":1400}],
        "vsock":{"cid":7,"listener":4,"out":{"dir":5,"prefix":"vsock"}},"balloon":{"target_mib":8}"#;
    let vm = check(&with(devices), 6).unwrap();
    assert!(vm.boot.initrd.is_some() && vm.disks[0].read_only);
    assert_eq!(vm.nets[0].mac.unwrap().to_string(), "02:00:00:00:00:01");
    assert_eq!(vm.vsock.unwrap().out.unwrap().prefix, "vsock");
    assert_eq!(vm.balloon.unwrap().target_mib, 8);
}

#[test]
fn a_lease_is_kept_with_the_vm() {
    let vm = check(&with(r#""lease":1"#), 2).unwrap();
    assert!(vm.lease.is_some());
    assert!(
        check(&with(r#""entropy":true"#), 1)
            .unwrap()
            .lease
            .is_none()
    );
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>) {
        let _ = Vm::validate(&bytes, vec![]);
    }
}
