//! Canaries in environments and registry credentials, and a search of everything that the product
//! writes, says and runs: each may be where an app needs it, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use buddo_shared::api::deploy::{CreateDeployment, Status};
use buddo_shared::host_wire::manifest::{
    DeploymentSpec, Manifest, RegistryCredentials, SCHEMA, ServiceSpec,
};
use buddo_shared::host_wire::sealed::{Sealed, SealingKey};
use buddo_shared::model::id::{DeploymentId, Generation};
use buddo_shared::model::name::HostName;
use buddo_shared::model::secret::Secret;
use buddo_tests::api::{Api, request};
use buddo_tests::impostor::{self, Impostor};
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::world::{Lease, World};
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);

/// Texts that occur nowhere else in the world, each in its own secret.
struct Canaries(Vec<String>);

impl Canaries {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| format!("canary{}", Uuid::new_v4().simple())).collect())
    }

    /// In plain, in hexadecimal, and in base64 at any offset in the encoded text. JSON and
    /// URLs escape nothing of them.
    fn forms(&self) -> Vec<String> {
        let hex = |text: &str| {
            text.bytes().fold(String::new(), |mut hex, byte| {
                // Writing to a string cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            })
        };
        let encoded = |text: &str, shift: usize| {
            let padded = format!("{}{text}", "x".repeat(shift));
            // The surrounding text changes only the characters that are cut off.
            let (first, last) = ([0, 2, 3][shift], padded.len() / 3 * 4);
            [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD]
                .map(|alphabet| alphabet.encode(&padded)[first..last].to_owned())
        };
        let mut forms = BTreeSet::new();
        for canary in &self.0 {
            forms.extend([canary.clone(), hex(canary), hex(canary).to_uppercase()]);
            forms.extend((0..3).flat_map(|shift| encoded(canary, shift)));
        }
        forms.into_iter().collect()
    }

    fn are_in(&self, bytes: &[u8]) -> bool {
        let within = |form: &String| bytes.windows(form.len()).any(|w| w == form.as_bytes());
        self.forms().iter().any(within)
    }

    /// Fails if `text` contains one.
    fn must_not_be_in(&self, place: &str, bytes: &[u8]) -> anyhow::Result<()> {
        ensure!(!bytes.is_empty(), "{place} says nothing, so it was not looked at");
        ensure!(!self.are_in(bytes), "{place} shows a secret: {}", String::from_utf8_lossy(bytes));
        Ok(())
    }

    /// Files of the world that contain one, relative to its folder. Only Podman's user namespace
    /// may read all of them.
    fn files(&self, world: &World) -> anyhow::Result<Vec<PathBuf>> {
        let base = world.layout().dir();
        let mut search: Vec<String> =
            ["podman", "unshare", "grep", "-rlaF", "--exclude-dir=overlay"]
                .map(str::to_owned)
                .into();
        search.extend(self.forms().into_iter().flat_map(|form| ["-e".to_owned(), form]));
        for folder in ["agent", "coordinator", "home", "log", "mail", "registry", "run", "tmp"] {
            search.push(base.join(folder).to_string_lossy().into_owned());
        }
        let output = world.exec(search)?;
        // 1: nothing found.
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(matches!(output.status.code(), Some(0 | 1)) && said.is_empty(), "{said}");
        let files = String::from_utf8(output.stdout)?;
        files.lines().map(|file| Ok(Path::new(file).strip_prefix(&base)?.to_owned())).collect()
    }

    /// Names of the world user's processes that have one in command line or environment.
    fn processes(&self, world: &World) -> anyhow::Result<BTreeMap<String, u32>> {
        let mut holders = BTreeMap::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let path = entry.path();
            let text = |name: &str| std::fs::read(path.join(name)).unwrap_or_default();
            if self.are_in(&[text("cmdline"), text("environ")].concat()) {
                let name = String::from_utf8_lossy(&text("comm")).trim().to_owned();
                let owner = path.metadata().map(|found| found.uid()).unwrap_or_default();
                ensure!(owner == world.owner().uid.as_raw(), "{name} of another user has it");
                *holders.entry(name).or_default() += 1;
            }
        }
        Ok(holders)
    }
}

/// Restarts the parts of the product that log, with everything logged.
async fn log_everything(product: &Product<'_>) -> anyhow::Result<()> {
    let world = product.world;
    let (agent, coordinator) = (product.agent_config(), product.coordinator_config());
    for (name, program, verb, config) in [
        ("coordinator", "buddo-coordinator", "serve", coordinator),
        ("resolver", "buddo-agent", "resolver", agent.clone()),
        ("agent", "buddo-agent", "run", agent),
    ] {
        world.stop(name, Signal::SIGTERM).await?;
        let program = world.binary(program).to_string_lossy().into_owned();
        let config = config.to_string_lossy().into_owned();
        let argv = [&*program, verb, "--config", &config];
        world.keep_service(name, &argv, &[("RUST_LOG", "trace")], name == "resolver")?;
    }
    // They are running already; this waits until they answer.
    product.keep_coordinator().await?;
    product.keep_agent().await
}

/// Everything that the agent shows people on its host.
fn tell(product: &Product<'_>, app: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut said = Vec::new();
    for words in [&["status"][..], &["explain", app], &["document"], &["routes"], &["events"]] {
        for json in [&["--json"][..], &[]] {
            let text = product.agent_command(&[words, json].concat())?;
            said.push((format!("buddo-agent {}", words.join(" ")), text.into_bytes()));
        }
    }
    let program = product.world.binary("buddo-agent").to_string_lossy().into_owned();
    let config = product.agent_config().to_string_lossy().into_owned();
    let doctor = product.world.exec([&*program, "doctor", "--json", "--config", &config])?;
    said.push(("buddo-agent doctor".to_owned(), doctor.stdout));
    Ok(said)
}

async fn environment_canaries(product: &Product<'_>, api: &Api) -> anyhow::Result<()> {
    let world = product.world;
    let canaries = Canaries::new(4);
    let [plain, lines, object, encoded] = &canaries.0[..] else { bail!("four") };
    let values = [
        ("PLAIN", plain.clone()),
        ("LINES", format!("first\n{lines}\nlast")),
        ("OBJECT", json!({ "password": object, "quoted": "\"" }).to_string()),
        ("ENCODED", BASE64_STANDARD_NO_PAD.encode(encoded)),
    ];
    let variables = values.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(&**value)));
    let create =
        CreateDeployment { env_vars: Some(variables.collect()), ..request("canary", IMAGE, PORT) };
    let made = api.create(&create).await?;
    api.reaches(&made.id, Status::Running, 1).await?;

    // They are where the app needs them.
    let edge = product.edge()?;
    for (name, value) in &values {
        let seen = edge.get(&format!("canary.{ZONE}"), &format!("/env?name={name}")).await?;
        ensure!(seen.text() == *value, "{name} came as {:?}", seen.text());
    }
    // Podman keeps what it passes to containers in its own user's folders; see decision 0005.
    let allowed = |file: &Path| {
        file.starts_with("home/.local/share/containers/storage")
            && (file.ends_with("secrets/filedriver/secretsdata.json")
                || file.ends_with("userdata/config.json"))
    };
    let files = canaries.files(world)?;
    ensure!(!files.is_empty(), "the search finds nothing, not even Podman's copy");
    ensure!(files.iter().all(|file| allowed(file)), "{files:?}");
    let processes = canaries.processes(world)?;
    ensure!(processes.keys().eq(["app"]), "{processes:?}");

    for (place, said) in tell(product, "canary")? {
        canaries.must_not_be_in(&place, &said)?;
    }
    for path in ["", "/status", "/logs"] {
        let path = format!("/api/deploy/apps/{}{path}", made.id);
        let reply = api.call(Method::GET, &path, None).await?;
        ensure!(reply.status == 200, "{path}: {reply:?}");
        canaries.must_not_be_in(&path, reply.json.to_string().as_bytes())?;
    }

    // After a change of environment, and after removal, nothing of it is left anywhere.
    api.destroy(&made.id).await?;
    api.reaches(&made.id, Status::Destroyed, 1).await?;
    poll::until("every copy to be gone", PATIENCE, async || {
        let files = canaries.files(world)?;
        ensure!(files.is_empty(), "{files:?}");
        let processes = canaries.processes(world)?;
        ensure!(processes.is_empty(), "{processes:?}");
        Ok(())
    })
    .await
}

/// A refused request is answered and logged without the values that came with it.
async fn refusals(product: &Product<'_>, api: &Api) -> anyhow::Result<()> {
    let canaries = Canaries::new(1);
    let canary = &canaries.0[0];
    let many: BTreeMap<String, &str> = (0..51).map(|n| (format!("V{n}"), &**canary)).collect();
    for variables in [
        json!({ "1NVALID": canary }),
        json!({ "LONG": canary.repeat(1000) }),
        json!({ "NUL": format!("{canary}\0") }),
        json!({ "NESTED": { "value": canary } }),
        json!({ "LIST": [canary] }),
        json!([canary]),
        json!(canary),
        json!(many),
    ] {
        let body = json!({
            "subdomain": "refused", "image": IMAGE, "tier": "buddo-starter", "port": PORT,
            "env_vars": variables,
        });
        let reply = api.call(Method::POST, "/api/deploy/apps", Some(&body)).await?;
        ensure!((400..500).contains(&reply.status), "{reply:?}");
        canaries.must_not_be_in("a refusal", reply.json.to_string().as_bytes())?;
    }
    let files = canaries.files(product.world)?;
    ensure!(files.is_empty(), "{files:?}");
    Ok(())
}

/// The API has no registry credentials yet; documents do.
async fn credential_canaries(product: &Product<'_>) -> anyhow::Result<()> {
    let world = product.world;
    let key: String = {
        let database = world.layout().path("coordinator/coordinator.db");
        let database = rusqlite::Connection::open(database)?;
        database.query_row("SELECT sealing_key FROM hosts", [], |row| row.get(0))?
    };
    let key: SealingKey = serde_json::from_value(Value::String(key.trim_matches('"').to_owned()))?;
    world.stop("coordinator", Signal::SIGKILL).await?;
    let thief = Impostor::of(product)?;
    let canaries = Canaries::new(2);
    let credentials = RegistryCredentials {
        username: "robot".to_owned(),
        password: Secret::new(&*canaries.0[0]),
    };
    let id = DeploymentId::new(Uuid::from_u128(1));
    let plain = Secret::new(serde_json::to_string(&credentials)?);
    let sealed = Sealed::seal(&key, Sealed::REGISTRY, id, &plain)?;
    let desired = |image: &str, revision: u32| {
        let registry_credentials = Some(sealed.clone());
        let service = ServiceSpec { registry_credentials, ..impostor::service(image, revision)? };
        impostor::deployment(id, "private", service)
    };
    let offer = async |number: u64, desired: DeploymentSpec| {
        #[expect(clippy::disallowed_methods, reason = "documents for a real agent need real time")]
        let now = Timestamp::now();
        let manifest = Manifest {
            schema: SCHEMA,
            host_id: thief.host,
            generation: Generation { epoch: u64::from(u32::MAX) * 2, generation: number },
            issued_at: now,
            expires_at: now + SignedDuration::from_hours(1),
            zone: HostName::parse(ZONE)?,
            deployments: vec![desired],
            trust: None,
        };
        let bytes = thief.signer.sign(&manifest)?.bytes;
        let (status, answer) = thief.offer(&thief.coordinator()?, bytes).await?;
        ensure!(status == 200, "{status} {answer}");
        Ok(())
    };
    // Once they are used for a pull that works, once for one that does not and is reported.
    offer(1, desired(IMAGE, 1)?).await?;
    let edge = product.edge()?;
    poll::until("the app", Duration::from_mins(1), async || {
        let answer = edge.get(&format!("private.{ZONE}"), "/").await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await?;
    offer(2, desired("harbor.buddo.xyz:4443/demo/web:none", 2)?).await?;
    poll::until("the failure", Duration::from_mins(1), async || {
        let said = product.agent_command(&["explain", "private"])?;
        ensure!(said.contains("web:none"), "{said}");
        Ok(())
    })
    .await?;
    for (place, said) in tell(product, "private")? {
        canaries.must_not_be_in(&place, &said)?;
    }
    let files = canaries.files(world)?;
    ensure!(files.is_empty(), "{files:?}");
    let processes = canaries.processes(world)?;
    ensure!(processes.is_empty(), "{processes:?}");
    Ok(())
}

#[tokio::test]
async fn secrets_appear_only_where_needed() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        log_everything(&product).await?;
        let api = product.operator("ada").await?;
        environment_canaries(&product, &api).await?;
        refusals(&product, &api).await?;
        credential_canaries(&product).await?;
        let log = std::fs::read_to_string(world.layout().path("log/agent.log"))?;
        ensure!(log.contains("TRACE"), "everything was logged, and searched");
        Ok(())
    })
    .await
}

/// Neither a crash nor another process of the same user reveals the memory of key holders: the
/// kernel gives the files of such a process in `/proc` to root (`proc(5)`), and dumps none.
#[tokio::test]
async fn memory_of_key_holders_cannot_be_dumped_or_read() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let _product = Product::up(world, Options::default()).await?;
        for name in ["coordinator", "agent", "resolver"] {
            let pid = world.service(name)?.pid.context("it does not run")?;
            let limits = world.exec(["cat", &format!("/proc/{pid}/limits")])?;
            let limits = String::from_utf8(limits.stdout)?;
            let core = limits.lines().find(|line| line.starts_with("Max core file size"));
            let core = core.context("no limit of core files")?.split_whitespace().skip(4);
            ensure!(core.take(2).eq(["0", "0"]), "{name}: {limits}");
            for file in ["environ", "mem"] {
                let read = world.exec(["head", "-c1", &format!("/proc/{pid}/{file}")])?;
                ensure!(!read.status.success(), "{name}: its user may read {file}");
            }
        }
        // The same check finds an ordinary process.
        let pid = world.service("caddy")?.pid.context("it does not run")?;
        let read = world.exec(["head", "-c1", &format!("/proc/{pid}/environ")])?;
        ensure!(read.status.success(), "environments of others cannot be read here anyway");
        Ok(())
    })
    .await
}
