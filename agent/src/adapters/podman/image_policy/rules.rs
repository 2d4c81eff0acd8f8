//! The table: what Podman 4.3 to 5.x takes from an image, and how we handle it.
//!
//! From the sources of Podman (`pkg/specgen/generate`, `libpod`) and crun, and measured on 4.3.1.
//! Before 4.6 Podman passes an image's annotations to the runtime as if its caller had set them.
//! Those that runtimes and their hooks are known to act on are refused, so that the image's author
//! hears of it; all others are emptied in the create call, since somebody may have installed a hook
//! that acts on them. An allow-list was rejected: any tool writes its own annotations, and emptied
//! they do nothing.

use super::super::images::Image;
use super::parts;

/// How a part of an image's configuration is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::adapters::podman) enum Treatment {
    /// An image that has it is not run.
    Refused,
    /// The create call overrides it, see `create.rs`.
    Overridden,
    /// It may do what it does.
    Harmless,
}

/// A part of an image's configuration.
#[derive(Debug, Clone, Copy)]
pub(in crate::adapters::podman) enum Part {
    /// Annotations of its manifest whose key has this prefix.
    Annotation(&'static str),
    /// Labels whose key has this prefix.
    Label(&'static str),
    /// What this check finds, in words.
    Found(fn(&Image) -> Option<String>),
    /// Not shown in Podman's answer about an image.
    Unseen,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(in crate::adapters::podman) struct Rule {
    /// What it is about, for readers and for the test examples.
    #[cfg_attr(not(test), expect(dead_code, reason = "the other columns decide"))]
    pub(in crate::adapters::podman) name: &'static str,
    pub(in crate::adapters::podman) part: Part,
    pub(in crate::adapters::podman) treatment: Treatment,
    /// What it would do, if refused or overridden; why it may, if harmless.
    pub(in crate::adapters::podman) why: &'static str,
}

const fn rule(name: &'static str, part: Part, treatment: Treatment, why: &'static str) -> Rule {
    Rule { name, part, treatment, why }
}

use Part::{Annotation, Found, Label, Unseen};
use Treatment::{Harmless, Overridden, Refused};

/// The first line that matches an annotation or label counts, so the general ones come last.
pub(in crate::adapters::podman) const RULES: &[Rule] = &[
    rule(
        "annotation run.oci.*",
        Annotation("run.oci."),
        Refused,
        "crun would act on it: system call filters, libraries it loads, files it writes",
    ),
    rule(
        "annotation io.podman.*",
        Annotation("io.podman."),
        Refused,
        "Podman would treat it as a setting of its own",
    ),
    rule(
        "annotation io.containers.*",
        Annotation("io.containers."),
        Refused,
        "hooks of the container tools would act on it: `io.containers.trace-syscall` writes a file",
    ),
    rule(
        "annotation io.container.*",
        Annotation("io.container."),
        Refused,
        "it would tell hooks that another program manages the container",
    ),
    rule(
        "annotation org.systemd.*",
        Annotation("org.systemd."),
        Refused,
        "the runtime would pass it to systemd as a property of the container's unit",
    ),
    rule(
        "annotation org.criu.*",
        Annotation("org.criu."),
        Refused,
        "the runtime would use it to configure checkpoints",
    ),
    rule(
        "annotation io.kubernetes.*",
        Annotation("io.kubernetes."),
        Refused,
        "runtimes would treat the container as part of a pod",
    ),
    rule(
        "annotation io.katacontainers.*",
        Annotation("io.katacontainers."),
        Refused,
        "the Kata runtime would use it to configure its virtual machine",
    ),
    rule(
        "annotation dev.gvisor.*",
        Annotation("dev.gvisor."),
        Refused,
        "the gVisor runtime would use it to configure itself",
    ),
    rule(
        "annotation krun.*",
        Annotation("krun."),
        Refused,
        "crun would use it to configure a virtual machine",
    ),
    rule(
        "annotation module.wasm.*",
        Annotation("module.wasm."),
        Refused,
        "crun would run the container with a WebAssembly engine of the host",
    ),
    rule(
        "any other annotation",
        Annotation(""),
        Overridden,
        "a hook that the host's administrator installed may act on it: its value is emptied",
    ),
    rule(
        "label io.containers.*",
        Label("io.containers."),
        Refused,
        "it would choose capabilities, system call filters or automatic updates in Podman",
    ),
    rule(
        "label PODMAN_SYSTEMD_UNIT",
        Label("PODMAN_SYSTEMD_UNIT"),
        Refused,
        "`podman auto-update` would restart the unit of the host that it names",
    ),
    rule(
        "label buddo.*",
        Label("buddo."),
        Refused,
        "this host knows its containers by such labels",
    ),
    rule(
        "any other label",
        Label(""),
        Harmless,
        "Podman only shows it; this includes io.podman.annotations.*, read for pods alone",
    ),
    rule(
        "environment taken from the host",
        Found(parts::env_of_host),
        Refused,
        "Podman would copy variables of its own environment into the container",
    ),
    rule(
        "environment without a name",
        Found(parts::env_without_name),
        Refused,
        "Podman creates no container with it",
    ),
    rule(
        "other environment",
        Found(parts::env),
        Harmless,
        "it is the app's own, and a deployment's environment takes precedence",
    ),
    rule(
        "another operating system",
        Found(parts::other_system),
        Refused,
        "Podman would choose another runtime because of it",
    ),
    rule(
        "unusable STOPSIGNAL",
        Found(parts::unusable_stop_signal),
        Refused,
        "Podman creates no container with it",
    ),
    rule(
        "STOPSIGNAL",
        Found(parts::stop_signal),
        Harmless,
        "whatever it is, SIGKILL follows when the stop's grace period is over",
    ),
    rule(
        "unusable EXPOSE",
        Found(parts::unusable_port),
        Refused,
        "Podman creates no container with it",
    ),
    rule(
        "too many ports in EXPOSE",
        Found(parts::too_many_ports),
        Refused,
        "Podman lists each port of each container in every list",
    ),
    rule("EXPOSE", Found(parts::port), Harmless, "only the deployment's own port is published"),
    rule(
        "VOLUME",
        Found(parts::volume),
        Overridden,
        "each would take one of Podman's locks and leave a volume behind: image_volume_mode is \
         `ignore`, and the folder is a part of the container",
    ),
    rule(
        "HEALTHCHECK",
        Unseen,
        Overridden,
        "it would become a timer of the host's user, outside the app's limits: the health check \
         is `NONE`, and the agent's probes decide",
    ),
    rule(
        "ENTRYPOINT or CMD that looks like systemd",
        Found(parts::init),
        Overridden,
        "Podman would make cgroups writable and mount more: `systemd` is `false`",
    ),
    rule(
        "ENTRYPOINT and CMD",
        Found(parts::command),
        Harmless,
        "it is the app itself, and runs as tightly as it may",
    ),
    rule(
        "USER",
        Found(parts::user),
        Harmless,
        "a user inside the container's user namespace, with no privileges to gain",
    ),
    rule("WORKDIR", Found(parts::working_dir), Harmless, "created inside the container if missing"),
    rule("ONBUILD", Unseen, Harmless, "only builds read it, and nothing is built on a host"),
];
