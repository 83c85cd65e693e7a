//! Every route in every state, and what bodies may say.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::control::fake::Fake;
use crate::control::http::Method;

mod devices;

struct Bench {
    api: Api,
    monitor: Fake,
    dir: tempfile::TempDir,
}

/// An API before the start, on a directory of its own with a `kernel` in it.
fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("kernel"), b"\x7fELF").unwrap();
    let instance = Instance {
        id: "a-vm".parse().unwrap(),
        launched_at: Some(7),
        logger: body::Logger::default(),
        metrics_path: None,
    };
    Bench {
        api: Api::new(instance).unwrap(),
        monitor: Fake::default(),
        dir,
    }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = Request {
            method: match method {
                "GET" => Method::Get,
                "PUT" => Method::Put,
                "PATCH" => Method::Patch,
                other => Method::Other(other.to_owned()),
            },
            path: path.to_owned(),
            body: body.as_bytes().to_vec(),
            keep_alive: true,
        };
        let response = self.api.answer(&request, &mut self.monitor);
        let body = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
        (response.status(), body)
    }

    /// Asks for what must succeed.
    fn put(&mut self, path: &str, body: &Value) {
        let answer = self.ask("PUT", path, &body.to_string());
        assert_eq!(answer, (204, Value::Null), "PUT {path} {body}");
    }

    fn get(&mut self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, "");
        assert_eq!(status, 200, "GET {path}");
        body
    }

    /// Asks for what must be refused; says why it was.
    fn fault(&mut self, method: &str, path: &str, body: &str) -> String {
        let (status, answer) = self.ask(method, path, body);
        assert_eq!(status, 400, "{method} {path} {body}: {answer}");
        answer["fault_message"].as_str().unwrap().to_owned()
    }

    fn boot_source(&mut self) {
        let kernel = self.path("kernel");
        let body = json!({"kernel_image_path": kernel, "boot_args": "a=b"});
        self.put("/boot-source", &body);
    }

    fn start(&mut self) {
        self.boot_source();
        self.put("/actions", &json!({"action_type": "InstanceStart"}));
    }
}

const STATES: [Option<State>; 4] = [
    None,
    Some(State::Running),
    Some(State::Paused),
    Some(State::Ended),
];

#[test]
fn every_route_in_every_state() {
    const LATE: &str = "The requested operation is not supported after starting the microVM.";
    const EARLY: &str = "The requested operation is not supported before starting the microVM.";
    const ENDED: &str = "The requested operation is not supported after the end of the microVM.";
    let read = [200, 200, 200, 200];
    let before = [204, 400, 400, 400];
    let after = [400, 204, 204, 400];
    let paused = r#"{"state":"Paused"}"#;
    let resumed = r#"{"state":"Resumed"}"#;
    let kernel = |b: &Bench| json!({"kernel_image_path": b.path("kernel")}).to_string();
    let text = |text: &'static str| move |_: &Bench| text.to_owned();
    let log = |b: &Bench| json!({"log_path": b.path("log")}).to_string();
    let metrics = |b: &Bench| json!({"metrics_path": b.path("metrics")}).to_string();
    type Body<'a> = &'a dyn Fn(&Bench) -> String;
    let table: [(&str, &str, Body<'_>, [u16; 4]); 17] = [
        ("GET", "/", &text(""), read),
        ("GET", "/version", &text(""), read),
        ("GET", "/machine-config", &text(""), read),
        ("GET", "/vm/config", &text(""), read),
        (
            "PUT",
            "/machine-config",
            &text(r#"{"vcpu_count":2,"mem_size_mib":64}"#),
            before,
        ),
        (
            "PATCH",
            "/machine-config",
            &text(r#"{"vcpu_count":2}"#),
            before,
        ),
        ("PUT", "/boot-source", &kernel, before),
        ("PUT", "/entropy", &text("{}"), before),
        ("PUT", "/serial", &text("{}"), before),
        ("PUT", "/logger", &log, before),
        ("PUT", "/metrics", &metrics, before),
        (
            "PUT",
            "/actions",
            &text(r#"{"action_type":"InstanceStart"}"#),
            before,
        ),
        (
            "PUT",
            "/actions",
            &text(r#"{"action_type":"SendCtrlAltDel"}"#),
            after,
        ),
        (
            "PUT",
            "/actions",
            &text(r#"{"action_type":"FlushMetrics"}"#),
            [400, 204, 204, 204],
        ),
        ("PATCH", "/vm", &text(paused), after),
        ("PATCH", "/vm", &text(resumed), after),
        ("GET", "/vsock", &text(""), [400; 4]),
    ];
    for (method, path, body, statuses) in table {
        for (state, status) in STATES.into_iter().zip(statuses) {
            let mut bench = bench();
            bench.boot_source();
            bench.monitor.state = state;
            let body = body(&bench);
            let (answered, answer) = bench.ask(method, path, &body);
            assert_eq!(
                answered, status,
                "{method} {path} {body} in {state:?}: {answer}"
            );
            if status == 400 && path != "/vsock" {
                let expected = match (state, statuses == before) {
                    (None, _) => EARLY,
                    (_, true) => LATE,
                    (_, false) => ENDED,
                };
                assert_eq!(answer, json!({"fault_message": expected}));
                assert_eq!(bench.monitor.calls, [""; 0], "refused, and yet done");
            }
        }
    }
}

#[test]
fn an_instance_says_who_it_is() {
    let mut bench = bench();
    let names = ["Not started", "Running", "Paused", "Ended"];
    for (state, name) in STATES.into_iter().zip(names) {
        bench.monitor.state = state;
        let expected =
            json!({"id": "a-vm", "state": name, "vmm_version": VERSION, "app_name": "Shoal"});
        assert_eq!(bench.get("/"), expected);
    }
    assert_eq!(
        bench.get("/version"),
        json!({"firecracker_version": VERSION})
    );
    assert_eq!(
        bench.get("/version/"),
        json!({"firecracker_version": VERSION})
    );
}

#[test]
fn what_was_put_is_what_boots() {
    let mut bench = bench();
    bench.put(
        "/machine-config",
        &json!({"vcpu_count": 3, "mem_size_mib": 256, "smt": false,
        "cpu_template": "None", "track_dirty_pages": false, "huge_pages": "None"}),
    );
    bench.put("/entropy", &json!({}));
    let out = bench.path("console");
    bench.put("/serial", &json!({"serial_out_path": out}));
    bench.start();
    let vm = bench.monitor.vm.take().unwrap();
    assert_eq!(
        (vm.vcpus.get(), vm.memory.mib(), vm.entropy),
        (3, 256, true)
    );
    assert_eq!((vm.id.as_str(), vm.boot.args.as_str()), ("a-vm", "a=b"));
    assert_eq!(vm.launched_at, Some(7));
    let Some(spec::ConsoleOutput::Stream(console)) = vm.console.map(|c| c.output) else {
        panic!("no stream");
    };
    std::io::Write::write_all(&mut std::fs::File::from(console), b"hello").unwrap();
    assert_eq!(std::fs::read(out).unwrap(), b"hello");
}

#[test]
fn an_initrd_goes_with_its_kernel() {
    let mut bench = bench();
    let (kernel, initrd) = (bench.path("kernel"), bench.path("initrd"));
    std::fs::write(&initrd, b"070701").unwrap();
    let put = json!({"kernel_image_path": kernel, "initrd_path": initrd});
    bench.put("/boot-source", &put);
    bench.put("/actions", &json!({"action_type": "InstanceStart"}));
    let vm = bench.monitor.vm.take().unwrap();
    let file = std::fs::File::from(vm.boot.initrd.unwrap());
    assert_eq!(file.metadata().unwrap().len(), 6);
}

#[test]
fn a_vm_of_which_little_was_said_has_defaults() {
    let mut bench = bench();
    let machine = json!({"vcpu_count": 1, "mem_size_mib": 128, "smt": false,
        "track_dirty_pages": false, "huge_pages": "None"});
    assert_eq!(bench.get("/machine-config"), machine);
    bench.start();
    let vm = bench.monitor.vm.take().unwrap();
    assert!(!vm.entropy && vm.console.is_some());
}

#[test]
fn a_patch_changes_what_it_names_or_nothing() {
    let mut bench = bench();
    let (status, _) = bench.ask("PATCH", "/machine-config", r#"{"mem_size_mib":512}"#);
    assert_eq!(status, 204);
    let wrong = r#"{"vcpu_count":2,"mem_size_mib":0}"#;
    let fault = bench.fault("PATCH", "/machine-config", wrong);
    assert_eq!(
        fault,
        "Machine config error: a VM has 2 to 1048576 MiB of memory, not 0"
    );
    let machine = bench.get("/machine-config");
    assert_eq!(
        (&machine["vcpu_count"], &machine["mem_size_mib"]),
        (&json!(1), &json!(512))
    );
    let empty = bench.fault("PATCH", "/machine-config", "{}");
    assert_eq!(empty, "Empty PATCH request.");
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let mut bench = bench();
    let kernel = bench.path("kernel");
    let initrd = json!({"kernel_image_path": kernel, "initrd_path": "/x"}).to_string();
    let cases = [
        (
            "/machine-config",
            r#"{"vcpu_count":0,"mem_size_mib":64}"#,
            "1 to 32 vCPUs, not 0",
        ),
        (
            "/machine-config",
            r#"{"vcpu_count":1000,"mem_size_mib":64}"#,
            "not 1000",
        ),
        (
            "/machine-config",
            r#"{"vcpu_count":1,"mem_size_mib":10485760}"#,
            "not 10485760",
        ),
        (
            "/machine-config",
            r#"{"vcpu_count":1,"mem_size_mib":64,"smt":true}"#,
            "smt is not",
        ),
        (
            "/machine-config",
            r#"{"vcpu_count":1,"mem_size_mib":64,"track_dirty_pages":true}"#,
            "track_dirty_pages is not",
        ),
        (
            "/machine-config",
            r#"{"vcpu_count":1,"mem_size_mib":64,"cpu_template":"T2"}"#,
            r#"cpu_template "T2" is not"#,
        ),
        (
            "/machine-config",
            r#"{"vcpu_count":1,"mem_size_mib":64,"huge_pages":"2M"}"#,
            r#"huge_pages "2M" is not"#,
        ),
        ("/machine-config", r#"{"vcpu_count":1}"#, "mem_size_mib"),
        (
            "/machine-config",
            r#"{"vcpu_count":1,"mem_size_mib":64,"turbo":1}"#,
            "turbo",
        ),
        ("/machine-config", "not json", "deserializing the json body"),
        ("/boot-source", &initrd, "cannot open"),
        ("/entropy", r#"{"rate_limiter":{}}"#, "rate_limiter is not"),
        (
            "/serial",
            r#"{"rate_limiter":{"size":1}}"#,
            "rate_limiter is not",
        ),
        ("/logger", r#"{"module":"x"}"#, "module is not"),
        (
            "/logger",
            r#"{"level":"Loud"}"#,
            r#"level "Loud" is none of"#,
        ),
        (
            "/actions",
            r#"{"action_type":"SelfDestruct"}"#,
            "SelfDestruct",
        ),
    ];
    for (path, body, words) in cases {
        let fault = bench.fault("PUT", path, body);
        assert!(fault.contains(words), "{path} {body}: {fault}");
    }
    assert_eq!(bench.monitor.calls, [""; 0]);
}

#[test]
fn a_wrong_path_is_refused_when_it_arrives() {
    let mut bench = bench();
    let (here, missing) = (bench.path(""), bench.path("none/x"));
    for (path, field, start) in [
        ("/boot-source", "kernel_image_path", "Boot source error: "),
        ("/serial", "serial_out_path", "Serial device error: "),
        ("/logger", "log_path", "Logger error: "),
        ("/metrics", "metrics_path", "Metrics error: "),
    ] {
        for file in [&here, &missing] {
            let fault = bench.fault("PUT", path, &json!({ (field): file }).to_string());
            assert!(fault.starts_with(start), "{fault}");
            assert!(fault.contains(&file.display().to_string()), "{fault}");
        }
    }
    // A FIFO that nobody writes to holds nobody up.
    let fifo = bench.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let body = json!({"kernel_image_path": fifo}).to_string();
    let fault = bench.fault("PUT", "/boot-source", &body);
    assert!(fault.ends_with("is not a regular file"), "{fault}");
}

#[test]
fn devices_of_later_versions_are_refused_by_name() {
    let mut bench = bench();
    for (method, path, what) in [
        ("PUT", "/snapshot/create", "snapshots"),
        ("PUT", "/mmds/config", "metadata service"),
        ("PUT", "/hotplug/memory", "memory hotplug"),
    ] {
        let fault = bench.fault(method, path, "{}");
        let expected = format!(
            "The requested operation is not supported: this version of Shoal has no {what}"
        );
        assert_eq!(fault, expected);
    }
}

#[test]
fn what_is_not_there_is_refused_as_firecracker_does() {
    let mut bench = bench();
    for (method, path, body, fault) in [
        (
            "GET",
            "/nothing",
            "",
            "Invalid request method and/or path: GET /nothing.",
        ),
        (
            "PUT",
            "/nothing",
            "{}",
            "Invalid request method and/or path: PUT /nothing.",
        ),
        (
            "DELETE",
            "/",
            "",
            "Invalid request method and/or path: DELETE /.",
        ),
        (
            "PATCH",
            "/boot-source",
            "{}",
            "Invalid request method and/or path: PATCH /boot-source.",
        ),
        ("GET", "/", "{}", "GET request cannot have a body."),
        ("PUT", "/actions", "", "Empty PUT request."),
        ("PATCH", "/vm", "", "Empty PATCH request."),
    ] {
        assert_eq!(bench.fault(method, path, body), fault);
    }
}

#[test]
fn a_start_needs_a_kernel_and_may_be_tried_again() {
    let mut bench = bench();
    let start = r#"{"action_type":"InstanceStart"}"#;
    let fault = bench.fault("PUT", "/actions", start);
    assert!(fault.ends_with("Cannot start microvm without kernel configuration."));
    bench.boot_source();
    bench.monitor.refuses = Some("no memory");
    let fault = bench.fault("PUT", "/actions", start);
    assert_eq!(fault, "Start microvm error: no memory");
    bench.monitor.refuses = None;
    bench.put("/actions", &json!({"action_type": "InstanceStart"}));
    assert_eq!(bench.monitor.calls, ["boot", "boot"]);
}

#[test]
fn a_vm_is_paused_once_and_resumed_once() {
    let mut bench = bench();
    bench.start();
    for state in ["Paused", "Paused", "Resumed", "Resumed"] {
        let (status, _) = bench.ask("PATCH", "/vm", &json!({ "state": state }).to_string());
        assert_eq!(status, 204);
    }
    assert_eq!(bench.monitor.calls, ["boot", "pause", "resume"]);
    bench.monitor.refuses = Some("vCPU 3 does not answer");
    let fault = bench.fault("PATCH", "/vm", r#"{"state":"Paused"}"#);
    assert_eq!(fault, "Internal VMM error: vCPU 3 does not answer");
}

#[test]
fn metrics_are_written_when_asked_when_due_and_at_the_end() {
    let mut bench = bench();
    let path = bench.path("metrics");
    bench.put("/metrics", &json!({ "metrics_path": path }));
    let again = json!({ "metrics_path": path }).to_string();
    assert!(bench.fault("PUT", "/metrics", &again).contains("already"));
    assert_eq!(bench.api.due(), None);
    bench.api.end(&bench.monitor);
    bench.start();
    let count = || std::fs::read_to_string(&path).unwrap().lines().count();
    assert_eq!(count(), 0);
    bench.put("/actions", &json!({"action_type": "FlushMetrics"}));
    assert_eq!(count(), 1);
    let due = bench.api.due().unwrap();
    bench.api.tick(due - 1, &bench.monitor);
    assert_eq!(count(), 1);
    bench.api.tick(due, &bench.monitor);
    assert_eq!(count(), 2);
    bench.monitor.state = Some(State::Ended);
    bench.api.end(&bench.monitor);
    assert_eq!(count(), 3);
}

#[test]
fn the_log_has_each_request() {
    let mut bench = bench();
    let path = bench.path("log");
    bench.put(
        "/logger",
        &json!({"log_path": path, "level": "info", "show_level": true}),
    );
    bench.fault("GET", "/nothing", "");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with(":INFO] PUT /logger: 204"), "{text}");
    assert!(
        lines[1].contains(":ERROR] GET /nothing: Invalid request"),
        "{text}"
    );
    let view = bench.get("/vm/config");
    assert_eq!(
        view["logger"],
        json!({"log_path": path, "level": "Info", "show_level": true})
    );
}

#[test]
fn a_configuration_that_was_read_starts_the_same_vm() {
    let mut first = bench();
    let (metrics, serial) = (first.path("m"), first.path("s"));
    first.put(
        "/machine-config",
        &json!({"vcpu_count": 4, "mem_size_mib": 32}),
    );
    first.put("/entropy", &json!({}));
    first.put("/metrics", &json!({ "metrics_path": metrics }));
    first.put("/serial", &json!({ "serial_out_path": serial }));
    first.start();
    let config = first.get("/vm/config");
    let file = first.path("config.json");
    std::fs::write(&file, config.to_string()).unwrap();

    let mut second = bench();
    second.api.start_from(&file, &mut second.monitor).unwrap();
    assert_eq!(second.get("/vm/config"), config);
    let vm = second.monitor.vm.take().unwrap();
    assert_eq!((vm.vcpus.get(), vm.memory.mib(), vm.entropy), (4, 32, true));
}

#[test]
fn a_configuration_file_is_refused_by_its_name_and_section() {
    let mut bench = bench();
    let file = bench.path("config.json");
    let kernel = bench.path("kernel");
    let refused = |bench: &mut Bench, text: String| {
        std::fs::write(&file, text).unwrap();
        let error = bench.api.start_from(&file, &mut bench.monitor).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("config.json"), "{error}");
        error
    };
    let with = |section: &str, value: Value| {
        json!({"boot-source": {"kernel_image_path": kernel}, (section): value}).to_string()
    };
    for (text, words) in [
        ("{}".to_owned(), "boot-source"),
        ("]".to_owned(), "line 1"),
        (with("turbo", json!(null)), "turbo"),
        (
            with("pmem", json!([{"id": "a"}])),
            r#""pmem": this version of Shoal has no pmem devices"#,
        ),
        (with("vsock", json!({})), "guest_cid"),
        (
            with(
                "machine-config",
                json!({"vcpu_count": 33, "mem_size_mib": 1}),
            ),
            "not 33",
        ),
        (
            json!({"boot-source": {"kernel_image_path": "/none"}}).to_string(),
            "/none",
        ),
        (" ".repeat(2 << 20), "has more than 1048576 bytes"),
    ] {
        let error = refused(&mut bench, text);
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(bench.monitor.calls, [""; 0]);
    let text = with("pmem", json!([]));
    std::fs::write(&file, text).unwrap();
    bench.api.start_from(&file, &mut bench.monitor).unwrap();
}

#[test]
fn a_vm_that_was_described_whole_is_shown_as_it_was_given() {
    let json = br#"{"version":1,"id":"b","vcpus":2,"memory_mib":64,"boot":{"kernel":0,"args":"x"},"entropy":true}"#;
    let null = std::fs::File::open("/dev/null").unwrap();
    let vm = spec::Vm::validate(json, vec![null.into()]).unwrap();
    let mut bench = bench();
    bench.api = Api::of(&vm);
    bench.monitor = Fake::in_state(Some(State::Running));
    let view = bench.get("/vm/config");
    assert_eq!(view["machine-config"]["vcpu_count"], 2);
    assert_eq!(view["machine-config"]["mem_size_mib"], 64);
    assert_eq!(view["boot-source"]["boot_args"], "x");
    assert_eq!(view["entropy"], json!({}));
    bench.put("/actions", &json!({"action_type": "FlushMetrics"}));
}
