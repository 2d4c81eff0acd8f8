//! Commands in the machine, by ssh. All of them share one connection, since a handshake takes a
//! second when emulated.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

/// How long a command may take unless its caller says otherwise.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a command in the machine did.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; 255 if ssh itself failed.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Both outputs, as a terminal would show them.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// The way into a machine as root.
#[derive(Debug, Clone)]
pub struct Ssh {
    key: PathBuf,
    control: PathBuf,
    port: u16,
}

impl Ssh {
    /// By a port of this machine, with a key in `folder`; `connection` tells the machine's boots apart.
    pub fn new(folder: &Path, port: u16, connection: u32) -> Self {
        Self { key: folder.join("key"), control: folder.join(format!("ssh-{connection}")), port }
    }

    fn options(&self) -> Vec<String> {
        let options = [
            "BatchMode=yes",
            "ConnectTimeout=10",
            "ControlMaster=auto",
            "ControlPersist=yes",
            "LogLevel=ERROR",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=6",
            // The other end is a process of this run, on loopback.
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
        ];
        let own = [
            format!("ControlPath={}", self.control.display()),
            format!("IdentityFile={}", self.key.display()),
        ];
        let all = options.iter().map(|&option| option.to_owned()).chain(own);
        // Nobody's own settings.
        let mut arguments = vec!["-F".to_owned(), "none".to_owned()];
        arguments.extend(all.flat_map(|option| ["-o".to_owned(), option]));
        arguments
    }

    /// Runs a program, without a shell's rules for its arguments.
    pub async fn run<A: AsRef<str>>(&self, argv: &[A]) -> anyhow::Result<Output> {
        self.run_within(PATIENCE, argv).await
    }

    /// [`run`](Self::run) with another deadline.
    pub async fn run_within<A: AsRef<str>>(
        &self,
        patience: Duration,
        argv: &[A],
    ) -> anyhow::Result<Output> {
        // sshd hands one string to the user's shell, so each argument becomes one quoted word.
        let line: Vec<_> = argv.iter().map(|argument| quoted(argument.as_ref())).collect();
        let mut command = Command::new("ssh");
        command.args(self.options()).args(["-p", &self.port.to_string(), "root@127.0.0.1", "--"]);
        command.arg(line.join(" "));
        let what = argv.first().map(AsRef::as_ref).unwrap_or_default();
        finish(command, patience).await.with_context(|| format!("{what} in the machine"))
    }

    /// What a program prints, if it succeeds.
    pub async fn must<A: AsRef<str>>(&self, argv: &[A]) -> anyhow::Result<String> {
        let output = self.run(argv).await?;
        let words: Vec<_> = argv.iter().map(AsRef::as_ref).collect();
        ensure!(
            output.code == 0,
            "`{}` exited with {}: {}",
            words.join(" "),
            output.code,
            output.text().trim()
        );
        Ok(output.stdout)
    }

    /// Copies files or folders of this machine into a folder of the other.
    pub async fn copy_in<P: AsRef<OsStr>>(&self, from: &[P], to: &str) -> anyhow::Result<()> {
        let from = from.iter().map(|path| path.as_ref().to_owned());
        self.copy(from.chain([format!("root@127.0.0.1:{to}").into()])).await
    }

    /// Copies a file or folder of the machine here.
    pub async fn copy_out(&self, from: &str, to: &Path) -> anyhow::Result<()> {
        self.copy([format!("root@127.0.0.1:{from}").into(), to.into()]).await
    }

    async fn copy(
        &self,
        paths: impl IntoIterator<Item = std::ffi::OsString>,
    ) -> anyhow::Result<()> {
        let mut command = Command::new("scp");
        command.args(self.options()).args(["-q", "-r", "-P", &self.port.to_string()]).args(paths);
        let output = finish(command, Duration::from_mins(3)).await.context("scp")?;
        ensure!(output.code == 0, "scp failed: {}", output.text().trim());
        Ok(())
    }

    /// Writes a file, for root alone or for everybody.
    pub async fn write(&self, path: &str, text: &str, mode: &str) -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text)?;
        self.copy_in(&[file.path()], path).await?;
        self.must(&["chmod", mode, path]).await.map(drop)
    }

    /// Ends the shared connection, which the machine's end would leave hanging.
    pub async fn close(&self) {
        let mut command = Command::new("ssh");
        command.args(self.options()).args(["-O", "exit", "root@127.0.0.1"]);
        // There may be none.
        let _ = finish(command, Duration::from_secs(5)).await;
    }
}

async fn finish(mut command: Command, patience: Duration) -> anyhow::Result<Output> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    // The process that keeps the connection inherits standard error and holds it open, so the output
    // goes to files, which need nobody to close them.
    let (stdout, stderr) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
    command.stdout(stdout.reopen()?).stderr(stderr.reopen()?);
    let mut child = command.spawn().context("cannot start it")?;
    let ended = tokio::time::timeout(patience, child.wait()).await;
    let read = |file: &tempfile::NamedTempFile| {
        std::fs::read(file.path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    let (stdout, stderr) = (read(&stdout)?, read(&stderr)?);
    let status = ended.with_context(|| {
        format!("did not end within {patience:?}; it printed: {}{}", stdout.trim(), stderr.trim())
    })??;
    Ok(Output { code: status.code().unwrap_or(-1), stdout, stderr })
}

/// One word of a POSIX shell.
fn quoted(argument: &str) -> String {
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shell_reads_quoted_words_as_they_were() {
        for word in ["", "a b", "it's", "$HOME `x` \\ \"y\"", "line\nline"] {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("printf %s {}", quoted(word))]);
            let output = finish(command, PATIENCE).await.unwrap();
            assert_eq!((output.code, output.stdout.as_str()), (0, word));
        }
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_given_up() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let error = finish(command, Duration::from_millis(50)).await.unwrap_err();
        assert!(format!("{error:#}").contains("did not end"), "{error:#}");
    }
}
