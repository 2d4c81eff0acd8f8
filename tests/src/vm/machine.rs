//! A virtual machine on a throw-away copy of the disk.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::disk::Disk;
use super::ssh::Ssh;
use crate::poll;

/// An emulated boot takes 20 to 50 s on a quiet machine.
const BOOT: Duration = Duration::from_mins(4);

/// How long a processor that really virtualises takes to run the first program, at most.
const ACCELERATED: Duration = Duration::from_secs(10);

/// The machine's memory, in MiB.
const MEMORY: &str = "3072";

/// What runs the machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accelerator {
    Kvm,
    /// Emulated in software.
    Tcg,
}

impl Accelerator {
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"],
        }
    }
}

/// Ports of this machine that lead into the virtual one.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    ssh: u16,
    /// The coordinator's API.
    pub api: u16,
    /// Caddy, 80 and 443.
    pub http: u16,
    pub https: u16,
}

/// A running machine. Dropping it ends it and removes its disk.
#[derive(Debug)]
pub struct Machine {
    disk: Disk,
    folder: TempDir,
    public_key: String,
    accelerator: Accelerator,
    pub ports: Ports,
    qemu: Child,
    boots: u32,
    /// The kernel's id of the boot that runs.
    boot_id: String,
    started: Instant,
}

impl Machine {
    /// Boots a new machine and waits until it lets root in.
    pub async fn boot(disk: Disk) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("buddo-vm-").tempdir()?;
        let [ssh, api, http, https] = free_ports()?;
        let ports = Ports { ssh, api, http, https };
        let public_key = make_key(&folder).await?;
        make_overlay(&disk, &folder).await?;
        // Kept after the run, until the next.
        fs::write(console(&disk), "")?;
        let mut accelerator = Accelerator::Tcg;
        // On some machines the device can be opened and nothing boots on it: only a try tells.
        if fs::File::options().read(true).write(true).open("/dev/kvm").is_ok() {
            accelerator = Accelerator::Kvm;
        }
        let mut qemu = spawn(&disk, &folder, &public_key, ports, accelerator)?;
        if accelerator == Accelerator::Kvm && !reaches_initrd(&disk, &mut qemu).await {
            tracing::info!("/dev/kvm boots nothing here; the machine is emulated");
            accelerator = Accelerator::Tcg;
            qemu.kill().await?;
            qemu = spawn(&disk, &folder, &public_key, ports, accelerator)?;
        }
        let mut machine = Self {
            disk,
            folder,
            public_key,
            accelerator,
            ports,
            qemu,
            boots: 1,
            boot_id: String::new(),
            started: Instant::now(),
        };
        machine.is_up().await?;
        Ok(machine)
    }

    /// Commands in this boot of the machine.
    pub fn ssh(&self) -> Ssh {
        Ssh::new(self.folder.path(), self.ports.ssh, self.boots)
    }

    /// When its kernel started, as the kernel counts.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// What the machine has said on its console since the first boot.
    pub fn console(&self) -> PathBuf {
        console(&self.disk)
    }

    /// Reboots it the orderly way.
    pub async fn reboot(&mut self) -> anyhow::Result<()> {
        let ssh = self.ssh();
        ssh.must(&["systemctl", "--no-block", "reboot"]).await?;
        ssh.close().await;
        self.boots += 1;
        self.is_up().await
    }

    /// Ends it as a power cut would, at once and with nothing written that was not yet on the disk.
    pub async fn cut_power(&mut self) -> anyhow::Result<()> {
        // SIGKILL
        self.qemu.kill().await.context("cannot end qemu")?;
        self.ssh().close().await;
        Ok(())
    }

    /// Starts it again after [`cut_power`](Self::cut_power).
    pub async fn power_on(&mut self) -> anyhow::Result<()> {
        self.qemu =
            spawn(&self.disk, &self.folder, &self.public_key, self.ports, self.accelerator)?;
        self.boots += 1;
        self.is_up().await
    }

    /// Waits until another boot than the last lets root in.
    async fn is_up(&mut self) -> anyhow::Result<()> {
        let ssh = self.ssh();
        let qemu = &mut self.qemu;
        let last = &self.boot_id;
        let looked = poll::until("the machine to boot", BOOT, async || {
            if let Some(status) = qemu.try_wait()? {
                return Ok(Err(status));
            }
            let files = ["cat", "/proc/sys/kernel/random/boot_id", "/proc/uptime"];
            let patience = Duration::from_secs(15);
            let output = match ssh.run_within(patience, &files).await {
                Ok(output) => output,
                Err(error) => {
                    ssh.close().await;
                    return Err(error);
                }
            };
            ensure!(output.code == 0, "{}", output.stderr.trim());
            let (id, uptime) = output.stdout.split_once('\n').context("no boot id")?;
            if id == last {
                ssh.close().await;
                bail!("it has not gone down yet");
            }
            Ok(Ok((id.to_owned(), uptime_of(uptime)?)))
        })
        .await;
        match looked {
            Ok(Ok((id, uptime))) => {
                self.boot_id = id;
                self.started = Instant::now().checked_sub(uptime).context("a wrong uptime")?;
                Ok(())
            }
            Ok(Err(status)) => bail!("qemu ended with {status}; {}", self.last_words()),
            Err(error) => Err(error).with_context(|| self.last_words()),
        }
    }

    fn last_words(&self) -> String {
        let text = fs::read(self.console()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        format!("the end of {}:\n{tail}", self.console().display())
    }
}

fn uptime_of(text: &str) -> anyhow::Result<Duration> {
    let seconds = text.split_whitespace().next().context("an empty uptime")?;
    Ok(Duration::try_from_secs_f64(seconds.parse()?)?)
}

fn console(disk: &Disk) -> PathBuf {
    disk.folder().join("console.log")
}

async fn reaches_initrd(disk: &Disk, qemu: &mut Child) -> bool {
    let console = console(disk);
    poll::until("the first program", ACCELERATED, async || {
        if qemu.try_wait()?.is_some() {
            return Ok(false);
        }
        let text = fs::read(&console)?;
        ensure!(String::from_utf8_lossy(&text).contains("initrd: started"), "not yet");
        Ok(true)
    })
    .await
    .unwrap_or(false)
}

/// Ports that were free a moment ago. All are held until the last is found.
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// A key for this run alone; its public half is the second word of the file.
async fn make_key(folder: &TempDir) -> anyhow::Result<String> {
    let file = folder.path().join("key");
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&file);
    let status = command.status().await.context("cannot run ssh-keygen")?;
    ensure!(status.success(), "ssh-keygen failed");
    let text = fs::read_to_string(file.with_extension("pub"))?;
    text.split_whitespace().nth(1).map(str::to_owned).context("ssh-keygen wrote no key")
}

async fn make_overlay(disk: &Disk, folder: &TempDir) -> anyhow::Result<()> {
    let base = fs::canonicalize(disk.system())?;
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(base);
    command.arg(folder.path().join("disk.qcow2"));
    let status = command.status().await.context("cannot run qemu-img")?;
    ensure!(status.success(), "qemu-img failed");
    Ok(())
}

fn spawn(
    disk: &Disk,
    folder: &TempDir,
    public_key: &str,
    ports: Ports,
    accelerator: Accelerator,
) -> anyhow::Result<Child> {
    let forwards = [(ports.ssh, 22), (ports.api, 8443), (ports.http, 80), (ports.https, 443)];
    let network =
        forwards.iter().fold("user,model=virtio-net-pci".to_owned(), |text, (here, there)| {
            format!("{text},hostfwd=tcp:127.0.0.1:{here}-:{there}")
        });
    let system = folder.path().join("disk.qcow2");
    let log = fs::File::create(disk.folder().join("qemu.log"))?;
    let mut command = Command::new("qemu-system-x86_64");
    command.args(accelerator.arguments());
    command.args(["-M", "q35", "-smp", "2", "-m", MEMORY, "-display", "none", "-monitor", "none"]);
    command.arg("-kernel").arg(disk.kernel()).arg("-initrd").arg(disk.initrd());
    let kernel = format!(
        "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 mitigations=off buddo.key={public_key}"
    );
    command.args(["-append", &kernel]);
    command.arg("-drive").arg(format!("file={},if=virtio,format=qcow2", system.display()));
    let archive = disk.archive();
    command.arg("-drive");
    command.arg(format!("file={},if=virtio,format=qcow2,readonly=on", archive.display()));
    command.args(["-nic", &network, "-device", "virtio-rng-pci"]);
    let console = console(disk);
    command.args(["-chardev"]);
    command.arg(format!("file,id=console,path={},append=on", console.display()));
    command.args(["-serial", "chardev:console"]);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    command
        .spawn()
        .context("cannot run qemu-system-x86_64; scripts/install-packages --vm installs it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_uptime() {
        assert_eq!(uptime_of("41.25 70.01\n").unwrap(), Duration::from_millis(41_250));
        assert!(uptime_of("").is_err());
    }

    #[test]
    fn ports_differ() {
        let [a, b, c, d] = free_ports().unwrap();
        let all = std::collections::BTreeSet::from([a, b, c, d]);
        assert_eq!(all.len(), 4);
    }
}
