//! The logins of this user, in one file that only they can read.
//!
//! ```text
//! credentials.json       0600, in a 0700 folder; one session per API address
//! credentials.json.lock  held while a session is refreshed, so that two commands at once do not
//!                        spend the same single-use refresh token
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use buddo_shared::api::auth::User;
use buddo_shared::api::connections::ExternalProfile;
use buddo_shared::api::oauth::Tokens;
use buddo_shared::model::secret::{Secret, exposed, exposed_option};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::ApiUrl;

/// 2: a session may be without a login, and an account without its mail address.
const VERSION: u32 = 2;
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Longer than a refresh may take, so a timeout means that the other command is stuck.
const LOCK_DEADLINE: Duration = Duration::from_mins(1);

/// Why the stored sessions cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Others can read or write the file.
    #[error("{} is open to other users (mode {mode:04o})", .path.display())]
    Exposed { path: PathBuf, mode: u32 },
    /// The file is not a credentials file. Its text is not repeated.
    #[error("{} is damaged", .0.display())]
    Damaged(PathBuf),
    /// A newer buddo wrote it.
    #[error("{} was written by a newer buddo (format {version})", .path.display())]
    Newer { path: PathBuf, version: u32 },
    /// Another command has held the lock for too long.
    #[error("another buddo has held {} for {} s", .0.display(), LOCK_DEADLINE.as_secs())]
    Locked(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// For `/api/deploy/*`.
    #[serde(serialize_with = "exposed")]
    pub(crate) access_token: Secret,
    pub(crate) expires_at: Timestamp,
    /// Exchanged once for the next pair of tokens.
    #[serde(serialize_with = "exposed")]
    pub(crate) refresh_token: Secret,
    /// The login itself, for `/api/auth/*`; only if this program has seen the password.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub(crate) jwt: Option<Secret>,
    pub(crate) account: Account,
}

/// Whose a session is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Account id, as audit logs name it.
    pub(crate) id: String,
    pub(crate) username: String,
    /// Mail address, if this program knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) email: Option<String>,
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { id: user.id, username: user.username, email: Some(user.email) }
    }
}

impl From<ExternalProfile> for Account {
    fn from(user: ExternalProfile) -> Self {
        Self { id: user.id, username: user.username, email: None }
    }
}

impl Session {
    /// A session from tokens, and the login they came from, if any. A server that
    /// gives no refresh token leaves an empty one, and the login is exchanged again when the access
    /// token expires.
    pub(crate) fn new(
        jwt: Option<Secret>,
        account: Account,
        tokens: Tokens,
        now: Timestamp,
    ) -> Self {
        Self {
            expires_at: expiry(&tokens, now),
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token.unwrap_or_else(|| Secret::new("")),
            jwt,
            account,
        }
    }

    /// This session with the tokens from a refresh.
    pub(crate) fn refreshed(&self, tokens: Tokens, now: Timestamp) -> Self {
        Self {
            expires_at: expiry(&tokens, now),
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token.unwrap_or_else(|| self.refresh_token.clone()),
            ..self.clone()
        }
    }

    /// Whether the access token has expired, or will during a request.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        now.saturating_add(SignedDuration::from_secs(30)).is_ok_and(|soon| soon >= self.expires_at)
    }
}

fn expiry(tokens: &Tokens, now: Timestamp) -> Timestamp {
    let lifetime = SignedDuration::from_secs(tokens.expires_in.max(0));
    now.saturating_add(lifetime).unwrap_or(now)
}

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    version: u32,
    sessions: BTreeMap<String, Session>,
    #[serde(default)]
    current: Option<Current>,
}

/// The API of the last login: used by commands without `--api`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Current {
    pub(crate) api: String,
    /// The file of additional root certificates given with it.
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct SessionStore {
    path: PathBuf,
}

/// Held while sessions are read, refreshed and written. The kernel releases it when the process
/// ends, however it ends.
pub(crate) struct SessionLock(#[expect(dead_code, reason = "held, not read")] File);

impl SessionStore {
    /// Sessions in the file at `path`, which need not exist yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The session with `api`, if there is one.
    pub(crate) fn load(&self, api: &ApiUrl) -> Result<Option<Session>, SessionError> {
        Ok(self.read()?.sessions.remove(api.as_str()))
    }

    /// The API of the last login, unless it was logged out.
    pub(crate) fn current(&self) -> Result<Option<Current>, SessionError> {
        let Contents { sessions, current, .. } = self.read()?;
        Ok(current.filter(|current| sessions.contains_key(&current.api)))
    }

    /// Makes the API of a session the one that later commands use.
    pub(crate) fn use_from_now_on(
        &self,
        _lock: &SessionLock,
        current: Current,
    ) -> Result<(), SessionError> {
        let mut contents = self.read()?;
        contents.current = Some(current);
        self.write(&contents)
            .map_err(|source| SessionError::Write { path: self.path.clone(), source })
    }

    /// Waits until no other command changes sessions.
    pub(crate) async fn lock(&self) -> Result<SessionLock, SessionError> {
        let path = self.path.with_extension("json.lock");
        let failed = |source| SessionError::Write { path: path.clone(), source };
        private_folder(&self.path).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(failed)?;
        let acquired = tokio::time::timeout(LOCK_DEADLINE, async {
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(std::fs::TryLockError::WouldBlock) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(std::fs::TryLockError::Error(error)) => return Err(error),
                }
            }
        });
        match acquired.await {
            Ok(locked) => locked.map_err(failed)?,
            Err(_) => return Err(SessionError::Locked(path)),
        }
        Ok(SessionLock(file))
    }

    /// Stores the session with `api`, or deletes it; the lock shows that no one else does.
    pub(crate) fn store(
        &self,
        _lock: &SessionLock,
        api: &ApiUrl,
        session: Option<Session>,
    ) -> Result<(), SessionError> {
        let mut contents = self.read()?;
        contents.version = VERSION;
        match session {
            Some(session) => contents.sessions.insert(api.as_str().to_owned(), session),
            None => contents.sessions.remove(api.as_str()),
        };
        self.write(&contents)
            .map_err(|source| SessionError::Write { path: self.path.clone(), source })
    }

    fn read(&self) -> Result<Contents, SessionError> {
        let failed = |source| SessionError::Read { path: self.path.clone(), source };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Contents { version: VERSION, sessions: BTreeMap::new(), current: None });
            }
            Err(error) => return Err(failed(error)),
        };
        self.refuse_exposed(&file).map_err(failed)??;
        let mut text = zeroize::Zeroizing::new(Vec::new());
        file.take(MAX_FILE).read_to_end(&mut text).map_err(failed)?;
        let damaged = |_| SessionError::Damaged(self.path.clone());
        // The version first: a newer format need not have the fields of this one.
        let Version { version } = serde_json::from_slice(&text).map_err(damaged)?;
        if version > VERSION {
            return Err(SessionError::Newer { path: self.path.clone(), version });
        }
        serde_json::from_slice(&text).map_err(damaged)
    }

    #[cfg(unix)]
    fn refuse_exposed(&self, file: &File) -> io::Result<Result<(), SessionError>> {
        use std::os::unix::fs::PermissionsExt as _;
        // The open file is asked, not the path: what was checked is what is read.
        let mode = file.metadata()?.permissions().mode() & 0o7777;
        let others = mode & 0o077;
        if others != 0 {
            return Ok(Err(SessionError::Exposed { path: self.path.clone(), mode }));
        }
        Ok(Ok(()))
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as on Unix")]
    fn refuse_exposed(&self, _file: &File) -> io::Result<Result<(), SessionError>> {
        Ok(Ok(()))
    }

    /// Replaces the file atomically: a reader sees the old sessions or the new ones, and a crash
    /// leaves one of them.
    fn write(&self, contents: &Contents) -> io::Result<()> {
        let folder = private_folder(&self.path)?;
        let text = zeroize::Zeroizing::new(serde_json::to_vec_pretty(contents)?);
        // Made with mode 0600 from the start.
        let mut file = tempfile::Builder::new().prefix(".credentials-").tempfile_in(folder)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        Ok(())
    }
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The folder of `path`, created if missing and closed to others.
fn private_folder(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if folder.metadata()?.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
        }
    }
    Ok(folder)
}

#[cfg(test)]
#[cfg(unix)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    pub(crate) fn session(token: &str) -> Session {
        Session {
            access_token: Secret::new(token),
            expires_at: at(1_000),
            refresh_token: Secret::new("refresh"),
            jwt: Some(Secret::new("jwt")),
            account: Account {
                id: "id".to_owned(),
                username: "myoperator".to_owned(),
                email: Some("you@example.com".to_owned()),
            },
        }
    }

    fn api(text: &str) -> ApiUrl {
        ApiUrl::parse(text).unwrap()
    }

    struct Home {
        _folder: tempfile::TempDir,
        path: PathBuf,
        store: SessionStore,
    }

    fn home() -> Home {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("buddo/credentials.json");
        Home { store: SessionStore::new(path.clone()), path, _folder: folder }
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[tokio::test]
    async fn sessions_are_stored_per_api_in_a_private_file() {
        let Home { store, path, .. } = &home();
        let (a, b) = (api("https://a.example"), api("https://b.example"));
        let lock = store.lock().await.unwrap();
        store.store(&lock, &a, Some(session("one"))).unwrap();
        store.store(&lock, &b, Some(session("two"))).unwrap();
        assert_eq!(store.load(&a).unwrap(), Some(session("one")));
        assert_eq!(store.load(&b).unwrap(), Some(session("two")));
        assert_eq!(store.load(&api("https://c.example")).unwrap(), None);
        assert_eq!(mode(path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        store.store(&lock, &a, None).unwrap();
        assert_eq!(store.load(&a).unwrap(), None);
        assert_eq!(store.load(&b).unwrap(), Some(session("two")));
        let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 2, "no temporary file stays: {left:?}");
    }

    #[tokio::test]
    async fn a_file_that_others_can_read_is_refused() {
        let Home { store, path, .. } = &home();
        let lock = store.lock().await.unwrap();
        store.store(&lock, &api("https://a.example"), Some(session("one"))).unwrap();
        for open in [0o640, 0o604, 0o620, 0o666] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(open)).unwrap();
            let error = store.load(&api("https://a.example")).unwrap_err();
            assert!(matches!(error, SessionError::Exposed { mode, .. } if mode == open), "{error}");
        }
    }

    #[tokio::test]
    async fn a_damaged_file_is_an_error_and_not_overwritten() {
        let Home { store, path, .. } = &home();
        let lock = store.lock().await.unwrap();
        let a = api("https://a.example");
        store.store(&lock, &a, Some(session("one"))).unwrap();
        let whole = std::fs::read(path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(path, &whole[..length]).unwrap();
            let error = store.load(&a).unwrap_err();
            assert!(matches!(error, SessionError::Damaged(_)), "{length} bytes: {error}");
            assert!(store.store(&lock, &a, Some(session("x"))).is_err(), "never written over");
        }
        std::fs::write(path, r#"{"version":3}"#).unwrap();
        assert!(matches!(store.load(&a), Err(SessionError::Newer { version: 3, .. })));
    }

    #[tokio::test]
    async fn a_file_of_the_previous_version_is_read_and_upgraded_on_write() {
        let Home { store, path, .. } = &home();
        let lock = store.lock().await.unwrap();
        let a = api("https://a.example");
        store.store(&lock, &a, Some(session("one"))).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::write(path, text.replace("\"version\": 2", "\"version\": 1")).unwrap();
        assert_eq!(store.load(&a).unwrap(), Some(session("one")));
        let bare = Session { jwt: None, ..session("two") };
        store.store(&lock, &a, Some(bare.clone())).unwrap();
        assert_eq!(store.load(&a).unwrap(), Some(bare));
        assert!(std::fs::read_to_string(path).unwrap().contains("\"version\": 2"));
    }

    #[tokio::test]
    async fn the_lock_is_exclusive() {
        let Home { store, .. } = &home();
        let first = store.lock().await.unwrap();
        let mut second = Box::pin(store.lock());
        let waits = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
        assert!(waits.is_err(), "the second waits while the first is held");
        drop(first);
        second.await.unwrap();
    }

    #[test]
    fn a_token_is_stale_shortly_before_it_ends() {
        assert!(!session("t").is_stale(at(969)));
        assert!(session("t").is_stale(at(970)));
        assert!(session("t").is_stale(at(5_000)));
    }

    #[test]
    fn debug_output_is_redacted() {
        let shown = format!("{:?}", session("canary-1"));
        assert!(!shown.contains("canary") && !shown.contains("jwt\""), "{shown}");
    }
}
