//! What each kind of host is told.

use std::path::PathBuf;

use super::*;

/// A host on which everything is as it should be.
fn host() -> Facts {
    Facts {
        architecture: "x86_64".into(),
        hardware_virtualization: true,
        kernel: "6.18.0".into(),
        kvm: Device::Usable,
        tun: Device::Usable,
        asked: Asked::Probe(super::super::probe::tests::good()),
        cgroups: Cgroups::V2,
        memory_available_mib: 8192,
        vmm: Some("/opt/shoal/vmm".into()),
        vmd: Some("/opt/shoal/vmd".into()),
        linux: super::super::linux::tests::good(),
        daemon: Daemon::Answers("/run/vmd.sock".into()),
    }
}

/// What `change` leads to: whether VMs can run, and what is said of `about`.
fn told(about: &str, change: impl FnOnce(&mut Facts)) -> (bool, Finding) {
    let mut facts = host();
    change(&mut facts);
    let verdict = judge(facts);
    let finding = verdict.findings.into_iter().find(|f| f.about == about);
    (verdict.can_run, finding.unwrap())
}

fn is_problem(about: &str, words: &str, change: impl FnOnce(&mut Facts)) {
    let (can_run, finding) = told(about, change);
    assert!(!can_run, "{finding:?}");
    assert_eq!(finding.level, Level::Problem);
    assert!(finding.text.contains(words), "{finding:?}");
    assert!(finding.mend.is_some(), "{finding:?}");
}

fn is_no_problem(about: &str, level: Level, words: &str, change: impl FnOnce(&mut Facts)) {
    let (can_run, finding) = told(about, change);
    assert!(can_run, "{finding:?}");
    assert_eq!(finding.level, level, "{finding:?}");
    assert!(finding.text.contains(words), "{finding:?}");
}

#[test]
fn a_good_host_is_good_throughout() {
    let verdict = judge(host());
    assert!(verdict.can_run);
    assert!(
        verdict.findings.iter().all(|f| f.level == Level::Good),
        "{:?}",
        verdict.findings
    );
    let page = verdict.page(Style(false));
    assert!(
        page.ends_with("VMs can run here.\n") && !page.contains("to mend"),
        "{page}"
    );
}

#[test]
fn kvm_that_cannot_be_used_is_told_with_its_cure() {
    is_problem("kvm", "not there", |f| f.kvm = Device::Missing);
    is_problem("kvm", "may not use", |f| f.kvm = Device::Forbidden);
    is_problem("kvm", "no driver", |f| f.kvm = Device::Dead);
    let (_, forbidden) = told("kvm", |f| f.kvm = Device::Forbidden);
    assert!(forbidden.mend.unwrap().contains("usermod -aG kvm"));
}

#[test]
fn a_processor_without_virtualization_is_told_as_far_as_it_matters() {
    is_no_problem("processor", Level::Note, "neither", |f| {
        f.hardware_virtualization = false
    });
    let (can_run, finding) = told("processor", |f| {
        f.hardware_virtualization = false;
        f.kvm = Device::Missing;
    });
    assert!(!can_run && finding.mend.unwrap().contains("firmware"));
    is_problem("processor", "aarch64", |f| {
        f.architecture = "aarch64".into()
    });
}

#[test]
fn missing_programs_are_named() {
    is_problem("programs", "vmm not found", |f| f.vmm = None);
    is_problem("programs", "vmd not found", |f| f.vmd = None);
    is_problem("programs", "vmm and vmd not found", |f| {
        (f.vmm, f.vmd) = (None, None)
    });
}

#[test]
fn a_probe_that_fails_says_why() {
    is_problem("kvm probe", "KVM too old", |f| {
        f.asked = Asked::ProbeError("KVM too old".into())
    });
    is_no_problem("kvm probe", Level::Warning, "version", |f| {
        f.asked = Asked::Probe("?".into())
    });
    // Where there is no device to ask, once is enough.
    let mut facts = host();
    facts.kvm = Device::Missing;
    facts.asked = Asked::ProbeError("no /dev/kvm".into());
    assert!(judge(facts).findings.iter().all(|f| f.about != "kvm probe"));
}

#[test]
fn what_limits_vms_and_does_not_stop_them() {
    is_no_problem("cgroups", Level::Note, "version 1", |f| {
        f.cgroups = Cgroups::V1
    });
    is_no_problem("cgroups", Level::Warning, "in bounds", |f| {
        f.cgroups = Cgroups::None
    });
    is_no_problem("network", Level::Warning, "without a network", |f| {
        f.tun = Device::Missing
    });
    is_no_problem("network", Level::Warning, "may not", |f| {
        f.tun = Device::Forbidden
    });
    is_no_problem("memory", Level::Warning, "500 MiB", |f| {
        f.memory_available_mib = 500
    });
    is_problem("memory", "20 MiB", |f| f.memory_available_mib = 20);
}

#[test]
fn a_daemon_that_does_not_run_is_no_problem() {
    let socket = PathBuf::from("/run/vmd.sock");
    is_no_problem("daemon", Level::Note, "starts it", |f| {
        f.daemon = Daemon::NotRunning(socket)
    });
    is_problem("daemon", "refused", |f| {
        f.daemon = Daemon::Unreachable("refused".into())
    });
}

#[test]
fn problems_come_with_what_mends_them() {
    let mut facts = host();
    facts.kvm = Device::Forbidden;
    let verdict = judge(facts);
    let page = verdict.page(Style(false));
    assert!(page.contains("problem  kvm"), "{page}");
    assert!(page.contains("to mend: join its group"), "{page}");
    assert!(page.ends_with("VMs cannot run here.\n"), "{page}");
    let json = serde_json::to_value(&verdict).unwrap();
    assert_eq!(json["can_run"], false);
    assert_eq!(json["facts"]["kvm"], "forbidden");
    assert_eq!(json["facts"]["probe"]["irqchip"], true);
}
