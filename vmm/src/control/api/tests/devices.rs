//! Drives, networks, sockets and the balloon.

use crate::rate::LimitChange;
use crate::spec::{IoEngine, TokenBucket};

use super::*;

fn file(bench: &Bench, name: &str, bytes: u64) -> PathBuf {
    let path = bench.path(name);
    std::fs::File::create(&path)
        .unwrap()
        .set_len(bytes)
        .unwrap();
    path
}

fn bucket(size: u64, one_time_burst: u64, refill_ms: u64) -> TokenBucket {
    TokenBucket {
        size: size.try_into().unwrap(),
        one_time_burst,
        refill_ms: refill_ms.try_into().unwrap(),
    }
}

#[test]
fn drives_boot_with_the_root_first_and_named() {
    let mut bench = bench();
    let (data, root) = (file(&bench, "data", 4096), file(&bench, "root", 8192));
    let limits = json!({"bandwidth": {"size": 10, "one_time_burst": 5, "refill_time": 100},
        "ops": {"size": 0, "refill_time": 100}});
    bench.put(
        "/drives/data",
        &json!({"drive_id": "data", "path_on_host": data, "is_root_device": false,
            "rate_limiter": limits, "io_engine": "Sync", "cache_type": "Writeback"}),
    );
    bench.put(
        "/drives/rootfs",
        &json!({"drive_id": "rootfs", "path_on_host": root, "is_root_device": true,
            "is_read_only": true}),
    );
    let view = bench.get("/vm/config");
    assert_eq!(view["drives"][0]["drive_id"], "rootfs");
    assert_eq!(view["drives"][1]["rate_limiter"]["bandwidth"]["size"], 10);
    bench.start();
    let vm = bench.monitor.vm.take().unwrap();
    assert_eq!(vm.boot.args.as_str(), "a=b root=/dev/vda ro");
    let [first, second] = &vm.disks[..] else {
        panic!("not two disks");
    };
    assert_eq!((first.id.as_str(), first.read_only), ("rootfs", true));
    assert_eq!(
        (first.io_engine, second.io_engine),
        (None, Some(IoEngine::Sync))
    );
    assert_eq!(second.rate.bandwidth, Some(bucket(10, 5, 100)));
    assert_eq!(second.rate.ops, None);
}

#[test]
fn a_drive_that_is_put_again_takes_the_place_of_the_first() {
    let mut bench = bench();
    let (old, new) = (file(&bench, "old", 512), file(&bench, "new", 1024));
    for (path, uuid) in [(&old, json!(null)), (&new, json!("0eaa91a0-01"))] {
        bench.put(
            "/drives/root",
            &json!({"drive_id": "root", "path_on_host": path, "is_root_device": true,
                "partuuid": uuid}),
        );
    }
    bench.start();
    let vm = bench.monitor.vm.take().unwrap();
    assert_eq!(vm.boot.args.as_str(), "a=b root=PARTUUID=0eaa91a0-01 rw");
    let size = rustix::fs::fstat(&vm.disks[0].file).unwrap().st_size;
    assert_eq!((vm.disks.len(), size), (1, 1024));
}

#[test]
fn drives_that_cannot_be_are_refused_when_they_arrive() {
    let mut bench = bench();
    let good = file(&bench, "good", 512);
    let root = |path: &PathBuf, more: Value| {
        let mut body = json!({"drive_id": "a", "path_on_host": path, "is_root_device": true});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let none = json!({});
    let (ragged, empty) = (file(&bench, "ragged", 513), file(&bench, "empty", 0));
    for (path, body, words) in [
        (
            "/drives/b",
            root(&good, none.clone()),
            "The id from the path [b] does not match the id from the body [a]!",
        ),
        (
            "/drives/a",
            root(&ragged, none.clone()),
            "513 bytes are not a multiple",
        ),
        ("/drives/a", root(&empty, none.clone()), "it is empty"),
        (
            "/drives/a",
            root(&bench.path(""), json!({"is_read_only": true})),
            "neither a regular file",
        ),
        (
            "/drives/a",
            root(&bench.path("absent"), none.clone()),
            "cannot open",
        ),
        (
            "/drives/a",
            root(&good, json!({"socket": "/x"})),
            "socket is not supported",
        ),
        (
            "/drives/a",
            root(&good, json!({"partuuid": "a b"})),
            r#"partuuid "a b""#,
        ),
        (
            "/drives/a",
            root(&good, json!({"io_engine": "Fast"})),
            "Fast",
        ),
        ("/drives/a", root(&good, json!({"speed": 1})), "speed"),
        (
            "/drives/a!",
            root(&good, json!({"drive_id": "a!"})),
            "device id",
        ),
        (
            "/drives/a",
            r#"{"drive_id":"a"}"#.to_owned(),
            "path_on_host",
        ),
    ] {
        let fault = bench.fault("PUT", path, &body);
        assert!(fault.contains(words), "{body}: {fault}");
    }
    bench.put(
        "/drives/a",
        &serde_json::from_str(&root(&good, none)).unwrap(),
    );
    let second = root(&good, json!({"drive_id": "b"}));
    let fault = bench.fault("PUT", "/drives/b", &second);
    assert_eq!(
        fault,
        "Drive config error: A root block device already exists!"
    );
    assert_eq!(
        bench.get("/vm/config")["drives"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn a_running_drives_limit_changes_where_the_patch_says_so() {
    let mut bench = bench();
    let patch = r#"{"drive_id":"d","rate_limiter":{"ops":{"size":3,"refill_time":50}}}"#;
    let fault = bench.fault("PATCH", "/drives/d", patch);
    assert!(fault.contains("before starting"), "{fault}");
    bench.start();
    assert_eq!(bench.ask("PATCH", "/drives/d", patch).0, 204);
    let end = r#"{"drive_id":"d","rate_limiter":{"bandwidth":{"size":0,"refill_time":0}}}"#;
    assert_eq!(bench.ask("PATCH", "/drives/d", end).0, 204);
    let ops = LimitChange {
        bandwidth: None,
        ops: Some(Some(bucket(3, 0, 50))),
    };
    let bandwidth = LimitChange {
        bandwidth: Some(None),
        ops: None,
    };
    let limits = [("d".to_owned(), ops), ("d".to_owned(), bandwidth)];
    assert_eq!(bench.monitor.limits, limits);
    let other = bench.fault("PATCH", "/drives/e", patch);
    assert!(other.contains("does not match"), "{other}");
    let path = r#"{"drive_id":"d","path_on_host":"/x"}"#;
    let fault = bench.fault("PATCH", "/drives/d", path);
    assert!(fault.contains("path_on_host of a running"), "{fault}");
    let late = r#"{"drive_id":"d","path_on_host":"/x","is_root_device":false}"#;
    let fault = bench.fault("PUT", "/drives/d", late);
    assert!(fault.contains("after starting"), "{fault}");
}

#[test]
fn a_balloon_boots_as_it_was_put_and_is_changed_while_it_runs() {
    let mut bench = bench();
    for path in ["/balloon", "/balloon/statistics"] {
        bench.fault("GET", path, "");
    }
    let fault = bench.fault("GET", "/balloon", "");
    assert_eq!(fault, "Balloon config error: No balloon device found.");
    let body = json!({"amount_mib": 8, "deflate_on_oom": true, "stats_polling_interval_s": 1,
        "free_page_reporting": true});
    bench.put("/balloon", &body);
    let early = bench.fault("PATCH", "/balloon", r#"{"amount_mib":9}"#);
    assert!(early.contains("before starting"), "{early}");
    let hinting = r#"{"amount_mib":8,"deflate_on_oom":true,"free_page_hinting":true}"#;
    let fault = bench.fault("PUT", "/balloon", hinting);
    assert!(fault.contains("free_page_hinting is not"), "{fault}");
    bench.start();
    let expected = spec::Balloon {
        target_mib: 8,
        deflate_on_oom: true,
        stats_interval_s: 1,
        free_page_reporting: true,
    };
    assert_eq!(bench.monitor.vm.as_ref().unwrap().balloon, Some(expected));
    assert_eq!(bench.ask("PATCH", "/balloon", r#"{"amount_mib":9}"#).0, 204);
    let interval = r#"{"stats_polling_interval_s":5}"#;
    assert_eq!(bench.ask("PATCH", "/balloon/statistics", interval).0, 204);
    let balloon = json!({"amount_mib": 9, "deflate_on_oom": true, "stats_polling_interval_s": 5,
        "free_page_hinting": false, "free_page_reporting": true});
    assert_eq!(bench.get("/balloon"), balloon);
    let statistics = json!({"target_pages": 9 * 256, "target_mib": 9, "actual_pages": 257,
        "actual_mib": 1, "free_memory": 77});
    assert_eq!(bench.get("/balloon/statistics"), statistics);
    let late = bench.fault("PUT", "/balloon", &body.to_string());
    assert!(late.contains("after starting"), "{late}");
}

#[test]
fn a_configuration_file_has_drives_and_a_balloon() {
    let mut bench = bench();
    let disk = file(&bench, "disk", 1024);
    let config = json!({
        "boot-source": {"kernel_image_path": bench.path("kernel")},
        "drives": [{"drive_id": "d", "path_on_host": disk, "is_root_device": false}],
        "balloon": {"amount_mib": 3, "deflate_on_oom": false},
    });
    let path = bench.path("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    bench.api.start_from(&path, &mut bench.monitor).unwrap();
    let vm = bench.monitor.vm.take().unwrap();
    assert_eq!((vm.disks.len(), vm.boot.args.as_str()), (1, ""));
    assert_eq!(vm.balloon.unwrap().target_mib, 3);
    // What is told of it is such a file.
    let view = bench.get("/vm/config");
    let mut again = super::bench();
    std::fs::write(&path, view.to_string()).unwrap();
    again.api.start_from(&path, &mut again.monitor).unwrap();
    assert_eq!(again.monitor.vm.take().unwrap().disks.len(), 1);
}

#[test]
fn a_socket_device_listens_where_it_was_put_and_leaves_nothing() {
    let mut bench = bench();
    let path = bench.path("v.sock");
    let body = json!({"guest_cid": 7, "uds_path": path});
    bench.put("/vsock", &body);
    // Put again, it takes its own place.
    bench.put("/vsock", &body);
    assert_eq!(bench.get("/vm/config")["vsock"], body);
    bench.start();
    let vsock = bench.monitor.vm.take().unwrap().vsock.unwrap();
    assert_eq!(vsock.cid, 7);
    assert_eq!(vsock.out.as_ref().unwrap().prefix, "v.sock");
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    let late = bench.fault("PUT", "/vsock", &body.to_string());
    assert!(late.contains("after starting"), "{late}");
    let Bench { api, dir, .. } = bench;
    drop(api);
    assert!(!path.exists());
    drop(dir);
}

#[test]
fn a_socket_device_that_cannot_be_is_refused_when_it_arrives() {
    let mut bench = bench();
    let taken = bench.path("taken");
    std::fs::write(&taken, "mine").unwrap();
    let good = bench.path("good");
    let put = |cid: u32, path: &PathBuf| json!({"guest_cid": cid, "uds_path": path}).to_string();
    for (body, words) in [
        (put(7, &taken), "Address already in use"),
        (put(7, &bench.path("none/x")), "No such file"),
        (put(2, &good), "not 2"),
        (put(7, &PathBuf::from("/")), "cannot begin a socket's name"),
        (put(7, &bench.path(&"x".repeat(90))), "cannot begin"),
    ] {
        let fault = bench.fault("PUT", "/vsock", &body);
        assert!(fault.starts_with("Vsock config error: "), "{fault}");
        assert!(fault.contains(words), "{body}: {fault}");
    }
    assert_eq!(std::fs::read(&taken).unwrap(), b"mine");
    assert!(!good.exists());
}

#[test]
fn an_interface_that_cannot_be_is_refused_when_it_arrives() {
    let mut bench = bench();
    let put = |tap: &str, mac: &str| {
        json!({"iface_id": "eth0", "host_dev_name": tap, "guest_mac": mac}).to_string()
    };
    let mac = "02:00:00:00:00:01";
    for (path, body, words) in [
        (
            "eth0",
            put("shoal-nowhere", mac),
            r#"has the name "shoal-nowhere""#,
        ),
        ("eth0", put("no/tap", mac), r#""no/tap" is not"#),
        (
            "eth0",
            put("tap0", "01:00:00:00:00:01"),
            "01:00:00:00:00:01",
        ),
        (
            "eth1",
            put("tap0", mac),
            "does not match the id from the body",
        ),
    ] {
        let fault = bench.fault("PUT", &format!("/network-interfaces/{path}"), &body);
        assert!(fault.starts_with("Network config error: "), "{fault}");
        assert!(fault.contains(words), "{body}: {fault}");
    }
}

#[test]
fn a_running_interfaces_limits_change_each_by_itself() {
    let mut bench = bench();
    let patch = r#"{"iface_id":"e","tx_rate_limiter":{"ops":{"size":3,"refill_time":50}}}"#;
    let early = bench.fault("PATCH", "/network-interfaces/e", patch);
    assert!(early.contains("before starting"), "{early}");
    bench.start();
    assert_eq!(bench.ask("PATCH", "/network-interfaces/e", patch).0, 204);
    let ops = LimitChange {
        bandwidth: None,
        ops: Some(Some(bucket(3, 0, 50))),
    };
    let limits = [
        ("e".to_owned(), LimitChange::default()),
        ("e".to_owned(), ops),
    ];
    assert_eq!(bench.monitor.limits, limits);
    let other = bench.fault("PATCH", "/network-interfaces/f", patch);
    assert!(other.contains("does not match"), "{other}");
}
