//! Against a fake Caddy: it reads what the load imports, and rejects any file with the word `bad`
//! in it. `tests/tests/it/caddy.rs` of buddo-tests asks the real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::*;

struct World {
    folder: tempfile::TempDir,
    config: Config,
    loads: Arc<AtomicUsize>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        let text = format!(
            "state_dir = '{root}/state'\nruntime_dir = '{root}/run'\n\
             [podman]\nsocket = '{root}/podman.sock'\n\
             [caddy]\nadmin = '{root}/admin.sock'\nroutes_dir = '{root}/routes'\n\
             caddyfile = '{root}/Caddyfile'\n"
        );
        let config = Config::parse(&text, &crate::config::Environment::default()).unwrap();
        let loads = Arc::new(AtomicUsize::new(0));
        let listener = UnixListener::bind(&config.caddy.admin).unwrap();
        let (staging, seen) = (folder.path().join("routes.staging"), Arc::clone(&loads));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !String::from_utf8_lossy(&request).contains("/routes.staging/*.caddy`\n") {
                    assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
                }
                let head = String::from_utf8_lossy(&request).to_lowercase();
                assert!(head.starts_with("post /load http/1.1\r\nhost: \r\n"), "{head}");
                let files = read_folder(&staging).unwrap();
                let bad = files.iter().find(|(_, text)| text.contains("bad"));
                let (status, body) = match bad {
                    None => ("200 OK", String::new()),
                    Some((file, _)) => ("400 Bad", format!(r#"{{"error":"adapt: {file}"}}"#)),
                };
                if bad.is_none() {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
                let length = body.len();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { folder, config, loads }
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    fn written(&self) -> RouteFiles {
        read_folder(&self.folder.path().join("routes")).unwrap()
    }
}

fn files(pairs: &[(&str, &str)]) -> RouteFiles {
    pairs.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
}

#[tokio::test]
async fn files_are_loaded_and_then_written() {
    let world = World::new();
    let routes = Routes::new(&world.config).unwrap();
    let wanted = files(&[("app-a.caddy", "1"), ("app-b.caddy", "2")]);
    assert_eq!(routes.apply(&wanted).await.unwrap(), []);
    assert_eq!((world.written(), world.loads()), (wanted.clone(), 1));
    // Once more: Caddy is asked, and unchanged files are not touched.
    let path = world.folder.path().join("routes/app-a.caddy");
    let before = path.metadata().unwrap().modified().unwrap();
    assert_eq!(routes.apply(&wanted).await.unwrap(), []);
    assert_eq!(world.loads(), 2);
    assert_eq!(path.metadata().unwrap().modified().unwrap(), before);
    let fewer = files(&[("app-b.caddy", "2")]);
    assert_eq!(routes.apply(&fewer).await.unwrap(), []);
    assert_eq!(world.written(), fewer);
}

/// `fm_27`: of many new files two are bad. Only they are rejected, one keeps its last good text,
/// and the folder holds what was loaded.
#[tokio::test]
async fn fm_27_only_bad_files_are_refused() {
    let world = World::new();
    let routes = Routes::new(&world.config).unwrap();
    routes.apply(&files(&[("app-a.caddy", "good"), ("app-z.caddy", "gone")])).await.unwrap();
    let mut wanted = files(&[("app-a.caddy", "bad"), ("app-g.caddy", "also bad")]);
    wanted.extend((0..9).map(|n| (format!("app-n{n}.caddy"), "fine".to_owned())));
    let refused = routes.apply(&wanted).await.unwrap();
    let mut names: Vec<_> = refused.iter().map(|refused| refused.file.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["app-a.caddy", "app-g.caddy"]);
    assert!(refused.iter().all(|refused| refused.message == format!("adapt: {}", refused.file)));
    let written = world.written();
    assert_eq!(written.get("app-a.caddy").map(String::as_str), Some("good"));
    assert_eq!(written.len(), 10);
    assert!(!written.contains_key("app-z.caddy") && !written.contains_key("app-g.caddy"));
}

#[tokio::test]
async fn a_missing_caddy_is_an_error_and_changes_no_file() {
    let mut world = World::new();
    world.config.caddy.admin = world.folder.path().join("nobody.sock");
    let routes = Routes::new(&world.config).unwrap();
    let error = routes.apply(&files(&[("app-a.caddy", "1")])).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("is Caddy running?"), "{source}");
    assert_eq!(world.written(), RouteFiles::new());
}

/// `fm_29`: a storm of changes causes at most two reloads a second.
#[tokio::test]
async fn fm_29_reloads_are_rate_limited() {
    let world = World::new();
    let routes = Routes::new(&world.config).unwrap();
    let before = Instant::now();
    for n in 0..3 {
        routes.apply(&files(&[("app-a.caddy", &n.to_string())])).await.unwrap();
    }
    assert!(before.elapsed() >= 2 * BETWEEN_RELOADS);
}

#[test]
fn only_the_import_in_the_administrators_main_file_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Caddyfile");
    let main = Main { path: path.clone(), default: "import /r/*.caddy\n".to_owned() };
    let importing = || main.importing(Path::new("/r"), Path::new("/s"));
    assert_eq!(importing().unwrap(), "import `/s/*.caddy`\n");
    std::fs::write(&path, "{\n\temail me\n}\nimport \"/r/*.caddy\"\nimport other\n").unwrap();
    assert_eq!(importing().unwrap(), "{\n\temail me\n}\nimport `/s/*.caddy`\nimport other\n");
    std::fs::write(&path, "# nothing\n").unwrap();
    assert!(importing().unwrap_err().to_string().contains("must hold the line"));
}

/// `fm_28`: a file that somebody else put into the folder never keeps Caddy from starting.
#[tokio::test(start_paused = true)]
async fn fm_28_a_foreign_file_is_noticed_set_aside_and_named() {
    let world = World::new();
    let routes = Routes::new(&world.config).unwrap();
    let wanted = files(&[("app-a.caddy", "1")]);
    routes.apply(&wanted).await.unwrap();
    let folder = world.folder.path().join("routes");
    let noticed =
        async |routes: &Routes| tokio::time::timeout(2 * GLANCES, routes.disturbed()).await.is_ok();
    assert!(!noticed(&routes).await);
    std::fs::write(folder.join("mine.caddy"), "bad").unwrap();
    assert!(noticed(&routes).await);
    for _ in 0..2 {
        let told = routes.apply(&wanted).await.unwrap();
        let [aside] = told.as_slice() else { panic!("{told:?}") };
        assert!(aside.file == "mine.caddy" && aside.message.contains("mine.caddy.disabled"));
        assert_eq!(world.written(), wanted);
        assert!(!noticed(&routes).await);
    }
    assert_eq!(std::fs::read(folder.join("mine.caddy.disabled")).unwrap(), b"bad");
    std::fs::remove_file(folder.join("mine.caddy.disabled")).unwrap();
    assert!(noticed(&routes).await);
    assert_eq!(routes.apply(&wanted).await.unwrap(), []);
}

fn logging(world: &World, file: &str) -> RouteFiles {
    let block = error_log::directive(&world.config.caddy.error_log);
    files(&[(file, &format!("a {{\n{block}\trespond ok\n}}\n"))])
}

/// A file occupies the place of the log's folder.
fn block_log(world: &World) -> PathBuf {
    let folder = world.config.caddy.error_log.parent().unwrap().to_owned();
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    folder
}

#[tokio::test]
async fn routes_drop_a_log_that_cannot_be_opened_and_restore_it_later() {
    let world = World::new();
    let wanted = logging(&world, "app-a.caddy");
    let bare = error_log::without(&wanted, &world.config.caddy.error_log);
    assert_eq!(bare["app-a.caddy"], "a {\n\trespond ok\n}\n");
    let in_the_way = block_log(&world);
    let routes = Routes::new(&world.config).unwrap();
    for _ in 0..2 {
        assert_eq!(routes.apply(&wanted).await.unwrap(), []);
        assert_eq!(world.written(), bare);
        let warnings = routes.warnings().join("\n");
        assert!(warnings.contains("caddy.error_log"), "{warnings}");
        assert_eq!(
            routes.failed_requests(&Names::default()).await.unwrap().requests.known_since,
            None
        );
    }
    std::fs::remove_file(in_the_way).unwrap();
    assert_eq!(routes.apply(&wanted).await.unwrap(), []);
    assert_eq!((world.written(), routes.warnings()), (wanted, Vec::new()));
    assert!(
        routes.failed_requests(&Names::default()).await.unwrap().requests.known_since.is_some()
    );
}

/// Caddy does not start from such a folder, and then takes nothing by its socket either.
#[tokio::test]
async fn caddy_can_start_when_its_log_cannot_be_opened() {
    let mut world = World::new();
    let wanted = logging(&world, "app-a.caddy");
    let bare = error_log::without(&wanted, &world.config.caddy.error_log);
    let routes = Routes::new(&world.config).unwrap();
    routes.apply(&wanted).await.unwrap();
    assert_eq!(world.written(), wanted);
    block_log(&world);
    // What runs before each start of Caddy, with or without the agent.
    write_main_file(&world.config).unwrap();
    assert_eq!(world.written(), bare);
    // And the agent, while Caddy is down.
    write_folder(&routes.files.folder, &routes.files.staging, &wanted).unwrap();
    world.config.caddy.admin = world.folder.path().join("nobody.sock");
    let routes = Routes::new(&world.config).unwrap();
    routes.apply(&wanted).await.unwrap_err();
    assert_eq!(world.written(), bare);
}

/// The agent could write it, but Caddy says that it cannot.
#[tokio::test]
async fn routes_drop_a_log_that_only_caddy_refuses() {
    let mut world = World::new();
    // The fake Caddy rejects everything with this word in it.
    world.config.caddy.error_log = world.folder.path().join("bad/errors.json");
    let wanted = logging(&world, "app-a.caddy");
    let routes = Routes::new(&world.config).unwrap();
    for _ in 0..2 {
        assert_eq!(routes.apply(&wanted).await.unwrap(), []);
        assert_eq!(world.written(), error_log::without(&wanted, &world.config.caddy.error_log));
        assert!(routes.warnings().join("\n").contains("adapt: app-a.caddy"));
    }
}

#[tokio::test]
async fn route_file_work_runs_off_the_async_thread() {
    let routes = Routes::new(&World::new().config).unwrap();
    let worked = routes.on_disk(|_| Ok(std::thread::current().id())).await.unwrap();
    assert_ne!(worked, std::thread::current().id());
}
