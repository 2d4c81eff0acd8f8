//! What the host lacks, when that is why Podman refuses to store a secret or to create or start a
//! container: not the app's fault, and no reason to give up its revision.
//!
//! Podman gives no code. A refusal is a chain of messages that ends in the kernel's (`errno(3)`),
//! followed at most by the runtime's own. Parts of the chain are the image's choice (its command,
//! user, folder), so an app could try to pass its own fault off as the host's, and thereby keep new
//! apps from the host: quoted text does not count, nor does any chain that complains about the
//! image's own settings.

use buddo_shared::host_wire::report::Failure;

use super::transport::Answer;
use crate::ports::ContainersError;

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    Keys,
    Disk,
    Watches,
    Files,
    Processes,
    Cgroups,
    Memory,
}

/// What runtimes and Podman append to the kernel's message.
const BEHIND: [&str; 2] = ["oci runtime error", "exit status 1"];

/// A chain with one of these is about the image's own settings.
const OF_IMAGES: [&str; 5] =
    ["invalid", "unable to find", "no matching entries", "not found", "parsing"];

/// Classifies a refusal: a host shortage, or another reason.
pub(super) fn refusal(answer: &Answer) -> ContainersError {
    match lack(&answer.message()) {
        Some(lack) => ContainersError::Full(failure(lack, &answer.message())),
        None => answer.refusal(),
    }
}

fn lack(message: &str) -> Option<Lack> {
    let words = unquoted(message).to_lowercase();
    if OF_IMAGES.iter().any(|of_image| words.contains(of_image)) {
        return None;
    }
    let mut chain = words.rsplit(": ").map(str::trim);
    let told = chain.find(|link| !BEHIND.contains(link))?;
    let about = |what: &[&str]| what.iter().any(|what| words.contains(what));
    match told {
        "disk quota exceeded" if about(&["keyring"]) => Some(Lack::Keys),
        "no space left on device" | "resource temporarily unavailable" if about(&["cgroup"]) => {
            Some(Lack::Cgroups)
        }
        "no space left on device" | "too many open files" if about(&["inotify"]) => {
            Some(Lack::Watches)
        }
        "no space left on device" | "disk quota exceeded" => Some(Lack::Disk),
        "too many open files" | "too many open files in system" => Some(Lack::Files),
        "resource temporarily unavailable" if about(&["fork", "clone", "thread"]) => {
            Some(Lack::Processes)
        }
        "cannot allocate memory" => Some(Lack::Memory),
        _ => None,
    }
}

/// Removes everything between the first quotation mark and the last: text chosen by an image may
/// itself contain quotation marks.
fn unquoted(message: &str) -> String {
    let mark = |c: char| matches!(c, '`' | '"' | '\'');
    match (message.find(mark), message.rfind(mark)) {
        (Some(first), Some(last)) => {
            [message.get(..first), message.get(last + 1..)].into_iter().flatten().collect()
        }
        _ => message.to_owned(),
    }
}

fn failure(lack: Lack, message: &str) -> Failure {
    let (code, what, mends) = match lack {
        Lack::Keys => (
            "host_out_of_keys",
            "kernel keys",
            "sets `keyring = false` in containers.conf, or raises the sysctl `kernel.keys.maxkeys`",
        ),
        Lack::Disk => ("host_out_of_disk", "disk space", "frees disk space or adds some"),
        Lack::Watches => (
            "host_out_of_watches",
            "watches of files",
            "raises the sysctls `fs.inotify.max_user_instances` and `fs.inotify.max_user_watches`",
        ),
        Lack::Files => (
            "host_out_of_files",
            "open files",
            "raises LimitNOFILE of buddo-podman.service or the sysctl `fs.file-max`",
        ),
        Lack::Processes => (
            "host_out_of_processes",
            "processes",
            "raises TasksMax of the user's slice or the sysctl `kernel.pid_max`",
        ),
        Lack::Cgroups => (
            "host_out_of_cgroups",
            "control groups",
            "looks at `cgroup.max.descendants` of the user's slice",
        ),
        Lack::Memory => ("host_out_of_memory", "memory", "frees memory or moves apps elsewhere"),
    };
    let said: String =
        message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    Failure {
        code: code.to_owned(),
        cause: format!("the app's host has no {what} left for another container: {said}"),
        fix: format!(
            "wait, it is retried automatically; the host's administrator {mends}, and runs \
             `buddo-agent doctor`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    // Podman 4.3.1 with crun 1.8.1.
    #[case("crun: create keyring `1435ea19`: Disk quota exceeded: OCI runtime error", Lack::Keys)]
    #[case("crun: clone: Resource temporarily unavailable: OCI runtime error", Lack::Processes)]
    #[case("fork/exec /usr/bin/conmon: resource temporarily unavailable", Lack::Processes)]
    #[case("fork/exec /usr/bin/conmon: cannot allocate memory", Lack::Memory)]
    #[case("creating container storage: mkdir /s/overlay/x: no space left on device", Lack::Disk)]
    #[case("open /s/libpod/x: disk quota exceeded", Lack::Disk)]
    #[case("crun: openat2: Too many open files in system: OCI runtime error", Lack::Files)]
    #[case("pipe2: too many open files", Lack::Files)]
    #[case("creating watcher: inotify_init1: too many open files", Lack::Watches)]
    #[case(
        "crun: creating cgroup directory `/sys/fs/cgroup/x`: No space left on device: OCI runtime error",
        Lack::Cgroups
    )]
    fn what_the_host_lacks_is_known_by_the_kernels_words(#[case] said: &str, #[case] lacks: Lack) {
        assert_eq!(lack(said), Some(lacks), "{said}");
        let failure = failure(lacks, said);
        assert!(failure.cause.starts_with("the app's host has no "), "{failure:?}");
        assert!(failure.fix.contains("host's administrator"), "{failure:?}");
        assert!(!failure.cause.contains(char::is_control) && failure.cause.len() < 400);
    }

    /// Command, user, folder and signal of an image are whatever its maker wants.
    #[rstest::rstest]
    #[case(
        "crun: executable file `/app` not found in $PATH: No such file or directory: OCI runtime attempted to invoke a command that was not found"
    )]
    #[case(
        "crun: open executable `x: No space left on device`: Permission denied: OCI permission denied"
    )]
    #[case("crun: exec `a`: Disk quota exceeded: `b`: Exec format error: OCI runtime error")]
    #[case("crun: create keyring `x`: Disk quota exceeded: `y`")]
    #[case("unable to find user x: no space left on device: no matching entries in passwd file")]
    #[case("invalid signal: x: too many open files")]
    #[case("runc: exec failed: \"x\": cannot allocate memory: \"y\": permission denied")]
    #[case("rootlessport listen tcp 127.66.0.10:8000: bind: address already in use")]
    #[case("reading a pipe: resource temporarily unavailable")]
    #[case("")]
    fn an_app_cannot_pass_its_own_fault_off_as_the_hosts(#[case] said: &str) {
        assert_eq!(lack(said), None, "{said}");
    }

    proptest::proptest! {
        #[test]
        fn text_chosen_by_an_image_is_never_taken_for_a_kernel_error(
            before in "(?s).{0,40}",
            mark in proptest::sample::select(&["", "`", "\"", "'"]),
            words in proptest::sample::select(&[
                "no space left on device",
                "Cannot allocate memory",
                "fork: Resource temporarily unavailable",
                "create keyring: Disk quota exceeded",
                "inotify: too many open files: OCI runtime error",
            ]),
            behind in proptest::sample::select(&["", ": OCI runtime error"]),
        ) {
            // The worst it can do: the kernel's message at the end, with or without a mark before
            // it.
            let chosen = format!("{before}{mark}: {words}");
            for said in [
                // Quoted text does not count, even if it ends its own quotation.
                format!("crun: chdir to `{chosen}`{behind}"),
                format!("crun: exec `{chosen}{mark}`{behind}"),
                // Unquoted text follows a phrase that says what it is.
                format!("invalid signal: {chosen}{behind}"),
                format!("unable to find user {chosen}{behind}"),
            ] {
                proptest::prop_assert_eq!(lack(&said), None, "{}", said);
            }
            let hosts = format!("crun: {words}{behind}");
            proptest::prop_assert!(lack(&hosts).is_some(), "{}", hosts);
        }

        #[test]
        fn arbitrary_messages_do_not_panic(message in "(?s).{0,300}") {
            let _ = lack(&message);
        }
    }
}
