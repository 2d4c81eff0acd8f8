use std::collections::BTreeSet;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn reference() -> ImageReference {
    ImageReference::parse("ghcr.io/acme/web:v1").unwrap()
}

/// An image about which Podman reports this.
fn image(told: Value) -> Image {
    serde_json::from_value(told).unwrap()
}

fn annotated(key: &str) -> Value {
    json!({"Annotations": {key: "x"}})
}

fn labelled(key: &str) -> Value {
    json!({"Labels": {key: "x"}, "Config": {"Labels": {key: "x"}}})
}

fn configured(field: &str, value: &Value) -> Value {
    json!({"Config": {field: value}})
}

/// A line of the table → images to which it applies, as Podman reports them.
fn examples(name: &str) -> Vec<Value> {
    let config = |field: &str, values: &[Value]| -> Vec<Value> {
        values.iter().map(|value| configured(field, value)).collect()
    };
    match name {
        "annotation run.oci.*" => {
            ["run.oci.seccomp_bpf_data", "run.oci.seccomp.plugins", "run.oci.hooks.stdout"]
                .map(annotated)
                .into()
        }
        "annotation io.podman.*" => vec![annotated("io.podman.annotations.init.container.type")],
        "annotation io.containers.*" => vec![annotated("io.containers.trace-syscall")],
        "annotation io.container.*" => vec![annotated("io.container.manager")],
        "annotation org.systemd.*" => vec![annotated("org.systemd.property.TimeoutStopUSec")],
        "annotation org.criu.*" => vec![annotated("org.criu.config")],
        "annotation io.kubernetes.*" => {
            ["io.kubernetes.cri-o.SandboxID", "io.kubernetes.cri.container-type"]
                .map(annotated)
                .into()
        }
        "annotation io.katacontainers.*" => vec![annotated("io.katacontainers.config.hypervisor")],
        "annotation dev.gvisor.*" => vec![annotated("dev.gvisor.spec.mount")],
        "annotation krun.*" => vec![annotated("krun.cpus")],
        "annotation module.wasm.*" => vec![annotated("module.wasm.image/variant")],
        "any other annotation" => {
            ["org.opencontainers.image.title", "com.docker.official-images.bashbrew.arch", ""]
                .map(annotated)
                .into()
        }
        "label io.containers.*" => ["capabilities", "autoupdate", "seccomp.profile"]
            .map(|rest| labelled(&format!("io.containers.{rest}")))
            .into(),
        "label PODMAN_SYSTEMD_UNIT" => vec![labelled("PODMAN_SYSTEMD_UNIT")],
        "label buddo.*" => vec![
            labelled("buddo.deployment"),
            json!({"Labels": {"buddo.slot": "a"}}),
            configured("Labels", &json!({"buddo.slot": "a"})),
        ],
        "any other label" => {
            ["maintainer", "io.podman.annotations.userns", "io.buildah.version", "run.oci.x"]
                .map(labelled)
                .into()
        }
        "environment taken from the host" => {
            config("Env", &[json!(["PATH=/bin", "*"]), json!(["HOME"]), json!(["BUDDO*"])])
        }
        "environment without a name" => config("Env", &[json!(["=x"]), json!([" =x"])]),
        "other environment" => config("Env", &[json!(["PATH=/bin", "EMPTY=", "STARS=*"])]),
        "another operating system" => vec![json!({"Os": "wasi"}), json!({"Os": "windows"})],
        "unusable STOPSIGNAL" => {
            let values = ["0", "65", "SIGNOTHING", "RTMIN+99", "TERM\n"].map(Value::from);
            config("StopSignal", &values)
        }
        "STOPSIGNAL" => {
            let values = ["SIGQUIT", "quit", "9", "-9", "SIGRTMIN+3", "RTMAX-14", "SIGCONT"]
                .map(Value::from);
            config("StopSignal", &values)
        }
        "unusable EXPOSE" => {
            let entries = ["", "x", "0/tcp", "80/tcp/tcp", "9-8", "80/sctp", "70000"];
            config("ExposedPorts", &entries.map(|entry| json!({entry: {}})))
        }
        "too many ports in EXPOSE" => config(
            "ExposedPorts",
            &[json!({"1-65535/tcp": {}}), json!({"1-1000": {}, "2000-2999/udp": {}})],
        ),
        "EXPOSE" => {
            config("ExposedPorts", &[json!({"8080/tcp": {}, "53/UDP": {}, "9000-9010": {}})])
        }
        "VOLUME" => config("Volumes", &[json!({"/data": {}})]),
        // Podman's answer shows nothing relevant for these: see `tests/tests/it/hostile.rs`.
        "HEALTHCHECK" => vec![json!({"Healthcheck": {"Test": ["CMD", "/app"], "Interval": 1}})],
        "ONBUILD" => vec![json!({"Config": {"OnBuild": ["RUN x"]}})],
        "ENTRYPOINT or CMD that looks like systemd" => vec![
            configured("Cmd", &json!(["/sbin/init"])),
            configured("Entrypoint", &json!(["/lib/systemd/systemd"])),
            configured("Cmd", &json!(["/bin/sh", "-c", "/usr/sbin/init"])),
        ],
        "ENTRYPOINT and CMD" => config("Entrypoint", &[json!(["/app", "--serve"])]),
        "USER" => config("User", &[json!("1000:1000"), json!("root")]),
        "WORKDIR" => config("WorkingDir", &[json!("/srv")]),
        other => panic!("{other} has no example"),
    }
}

/// Every line has examples: it applies to them, and they are refused exactly if it says so.
#[test]
fn fm_51_every_rule_applies_to_its_examples() {
    let mut names = BTreeSet::new();
    for rule in RULES {
        assert!(names.insert(rule.name), "{} stands twice", rule.name);
        assert!(!rule.why.is_empty());
        for example in examples(rule.name) {
            let found = image(example.clone());
            let applies: Vec<_> = applied(&found).iter().map(|(rule, _)| rule.name).collect();
            let seen = !matches!(rule.part, Part::Unseen);
            assert_eq!(applies.contains(&rule.name), seen, "{}: {example} {applies:?}", rule.name);
            let refused = check(&reference(), &found);
            if rule.treatment == Treatment::Refused {
                let failure = refused.unwrap_err();
                assert_eq!(failure.code, "image_not_allowed", "{}: {example}", rule.name);
                assert!(failure.cause.ends_with(rule.why), "{failure:?}");
            } else {
                refused.unwrap_or_else(|failure| panic!("{}: {failure:?}", rule.name));
            }
        }
    }
}

/// Podman 4.3.1's answer for an image built as most are, shortened.
#[test]
fn a_typical_image_is_allowed() {
    let told = json!({
        "Id": "1", "Digest": "sha256:00", "RepoTags": ["docker.io/library/nginx:latest"],
        "Architecture": refusal::architecture(), "Os": "linux", "Size": 142_145_851,
        "Config": {
            "ExposedPorts": {"80/tcp": {}},
            "Env": ["PATH=/usr/local/sbin:/usr/bin", "NGINX_VERSION=1.23.3", "EMPTY="],
            "Entrypoint": ["/docker-entrypoint.sh"], "Cmd": ["nginx", "-g", "daemon off;"],
            "Labels": {"maintainer": "NGINX Docker Maintainers <docker-maint@nginx.com>"},
            "StopSignal": "SIGQUIT"
        },
        "RootFS": {"Type": "layers", "Layers": ["sha256:1", "sha256:2"]},
        "Labels": {"maintainer": "NGINX Docker Maintainers <docker-maint@nginx.com>"},
        "Annotations": {
            "com.docker.official-images.bashbrew.arch": "amd64",
            "org.opencontainers.image.version": "1.23.3"
        },
        "NamesHistory": ["docker.io/library/nginx:latest"]
    });
    check(&reference(), &image(told)).unwrap();
    for bare in [json!({}), json!({"Config": null, "Labels": null, "Annotations": null})] {
        check(&reference(), &image(bare)).unwrap();
    }
    let nulls = json!({"Config": {"Env": null, "User": "", "Volumes": null, "StopSignal": ""}});
    assert!(applied(&image(nulls)).is_empty());
}

#[rstest]
#[case::labels(labelled_with)]
#[case::annotations(|text: &str| json!({"Annotations": {"a": text}}))]
#[case::env(|text: &str| configured("Env", &json!([format!("A={text}")])))]
#[case::command(|text: &str| configured("Cmd", &json!([text])))]
#[case::volumes(|text: &str| configured("Volumes", &json!({text: {}})))]
#[case::folder(|text: &str| configured("WorkingDir", &json!(text)))]
fn fm_52_the_text_of_a_configuration_is_bounded(#[case] told: fn(&str) -> Value) {
    // The text around it in the examples has up to two bytes.
    check(&reference(), &image(told(&"x".repeat(MAX_TEXT - 2)))).unwrap();
    let failure = check(&reference(), &image(told(&"x".repeat(MAX_TEXT + 1)))).unwrap_err();
    assert_eq!(failure.code, "image_config_too_large");
    assert!(failure.cause.contains("64 KiB") && failure.cause.contains("65 KiB"), "{failure:?}");
}

/// Podman reports labels twice.
fn labelled_with(text: &str) -> Value {
    json!({"Labels": {"a": text}, "Config": {"Labels": {"a": text}}})
}

#[test]
fn fm_52_text_is_summed_and_an_oversized_record_is_refused() {
    let third = "x".repeat(MAX_TEXT / 3 + 1);
    let told = json!({
        "Annotations": {"a": third}, "Labels": {"a": third}, "Config": {"Env": [format!("A={third}")]}
    });
    assert_eq!(check(&reference(), &image(told)).unwrap_err().code, "image_config_too_large");
    let unread = Image { too_large: true, ..Image::default() };
    assert_eq!(check(&reference(), &unread).unwrap_err().code, "image_config_too_large");
}

#[test]
fn fm_52_layers_are_bounded() {
    let layers = |count| image(json!({"RootFS": {"Layers": vec!["sha256:1"; count]}}));
    check(&reference(), &layers(MAX_LAYERS)).unwrap();
    let failure = check(&reference(), &layers(MAX_LAYERS + 1)).unwrap_err();
    assert_eq!(failure.code, "image_too_many_layers");
    assert!(failure.cause.contains("128") && failure.cause.contains("127"), "{failure:?}");
}

#[test]
fn an_image_for_another_architecture_is_refused() {
    let failure = check(&reference(), &image(json!({"Architecture": "s390x"}))).unwrap_err();
    assert_eq!(failure.code, "wrong_architecture");
}

/// Podman from 4.6 on takes no annotations from an image, so none may be named to it.
#[test]
fn fm_51_other_annotations_are_emptied_if_podman_would_apply_them() {
    let found = image(annotated("com.acme.hook"));
    for takes in ["4.3.1", "4.5.1", ""] {
        assert_eq!(emptied(&found, takes), BTreeMap::from([("com.acme.hook".to_owned(), "")]));
    }
    for takes_not in ["4.6.0", "4.9.4", "5.0.0", "5.4.2", "6.0.0-dev"] {
        assert!(emptied(&found, takes_not).is_empty(), "{takes_not}");
    }
}

proptest! {
    /// Whatever an author writes, a failure is two plain lines of bounded length.
    #[test]
    fn fm_51_annotation_keys_are_cleaned_in_failure_messages(rest in "(?s).{0,300}") {
        let found = image(annotated(&format!("run.oci.{rest}")));
        let failure = check(&reference(), &found).unwrap_err();
        for line in [&failure.cause, &failure.fix] {
            prop_assert!(!line.chars().any(char::is_control) && line.len() < 2_000, "{line}");
        }
        let turned = '\u{202e}';
        prop_assert!(!failure.cause.contains(turned));
        prop_assert!(failure.cause.contains("run.oci."));
    }
}

/// A container of ours as Podman 4.3.1 shows it.
#[test]
fn fm_51_runtime_annotations_are_found_in_the_container_too() {
    let container = |key: &str, value: &str| {
        let own = [
            ("io.container.manager", "libpod"),
            ("io.kubernetes.cri-o.TTY", "false"),
            ("io.podman.annotations.privileged", "FALSE"),
            ("org.opencontainers.image.stopSignal", "15"),
            (key, value),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
        obeyed(BTreeMap::from(own).iter())
    };
    for key in ["run.oci.hooks.stdout", "org.systemd.property.X", "io.containers.trace-syscall"] {
        let (what, why) = container(key, "/x").expect(key);
        assert!(what.contains(key) && !why.is_empty(), "{what}");
        // As emptied by the create call.
        assert_eq!(container(key, ""), None, "{key}");
    }
    assert_eq!(container("com.acme.note", "x"), None);
}
