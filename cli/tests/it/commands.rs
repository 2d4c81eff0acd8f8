//! Every command as an operator types it: what it sends and what it prints.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::common::*;

#[tokio::test]
async fn the_version_is_printed_as_documented() {
    let ran = World::new().await.buddo(&["--version"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "buddo v0.1.0\n"));
}

#[tokio::test]
async fn every_command_has_help() {
    let world = World::new().await;
    let commands: [&[&str]; 17] = [
        &[],
        &["login"],
        &["deploy"],
        &["deploy", "logs"],
        &["deploy", "stop"],
        &["deploy", "restart"],
        &["deploy", "destroy"],
        &["status"],
        &["revisions"],
        &["rollback"],
        &["keys"],
        &["keys", "create"],
        &["orgs"],
        &["orgs", "invite"],
        &["teams"],
        &["teams", "add"],
        &["completions"],
    ];
    let mut text = String::new();
    for command in commands {
        let ran = world.buddo(&[command, &["--help"]].concat()).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        write!(text, "$ buddo {} --help\n{}\n", command.join(" "), ran.out).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn login_stores_a_private_session() {
    let world = World::new().await;
    world.answer_login(3600).await;
    let ran = world.buddo_with(&["login"], "you@example.com\ncanary-password\n").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "Logged in as myoperator\n"), "{ran}");

    let sent: Value = world.requests("POST", "/api/auth/login").await[0].body_json().unwrap();
    assert_eq!(sent, json!({ "email": "you@example.com", "password": PASSWORD }));
    let file = world.credentials();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert!(!std::fs::read_to_string(file).unwrap().contains(PASSWORD));
}

#[tokio::test]
async fn login_accepts_options_variables_and_a_totp_code() {
    let world = World::new().await;
    let mut wanted = problem(401, "totp_required", "a one-time code is needed");
    let body = json!({
        "type": "t", "title": "t", "status": 401, "detail": "a one-time code is needed",
        "code": "totp_required", "error": "e", "totp_required": true,
    });
    wanted = wanted.set_body_json(body);
    wiremock::Mock::given(wiremock::matchers::path("/api/auth/login"))
        .respond_with(wanted)
        .up_to_n_times(1)
        .mount(&world.api)
        .await;
    world.answer_login(3600).await;
    let mut command = world.command(&["login", "--email", "you@example.com", "--json"]);
    command.env("BUDDO_PASSWORD", PASSWORD).stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    {
        use tokio::io::AsyncWriteExt as _;
        child.stdin.take().unwrap().write_all(b"canary-totp\n").await.unwrap();
    }
    let ran = finish(child).await;
    assert_eq!(ran.json()["username"], "myoperator", "{ran}");
    let sent = world.requests("POST", "/api/auth/login").await;
    assert_eq!(sent[1].body_json::<Value>().unwrap()["totp_code"], "canary-totp");
}

#[tokio::test]
async fn deploy_prints_the_documented_lines() {
    let world = World::logged_in().await;
    world.mock("POST", APPS, enveloped(201, "pending")).await;
    let seen = [status("pending", None), status("deploying", None), status("running", None)];
    world.mock("GET", &app("/events"), events(&seen)).await;
    let mut args = CREATE.to_vec();
    args.extend(["--env", "DATABASE_URL=canary-env"]);
    let ran = world.buddo(&args).await;
    assert_eq!(
        ran.out,
        format!(
            "Creating deployment \"my-app\"...\nDeployment ID: {ID}\n\
             Status: pending → deploying → running\nLive at: https://my-app.buddocloud.com\n"
        ),
        "{ran}"
    );
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));

    let sent = &world.requests("POST", APPS).await[0];
    assert_eq!(
        sent.body_json::<Value>().unwrap(),
        json!({
            "subdomain": "my-app", "image": "docker.io/library/nginx:latest",
            "tier": "buddo-starter", "port": 80, "env_vars": { "DATABASE_URL": "canary-env" },
        })
    );
    assert_eq!(sent.headers["authorization"], "Bearer canary-access-1");
    assert_eq!(sent.headers["idempotency-key"].len(), 32);
}

#[tokio::test]
async fn deploy_polls_without_an_event_stream() {
    let world = World::logged_in().await;
    world.mock("POST", APPS, enveloped(201, "pending")).await;
    let running = ResponseTemplate::new(200).set_body_json(status("running", None));
    world.mock("GET", &app("/status"), running).await;
    world.mock("GET", &app(""), enveloped(200, "running")).await;
    let mut args = CREATE.to_vec();
    args.push("--json");
    let ran = world.buddo(&args).await;
    assert_eq!(ran.json(), deployment("running"), "{ran}");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[tokio::test]
async fn deploy_polls_after_the_event_stream_breaks() {
    let world = World::logged_in().await;
    world.mock("POST", APPS, enveloped(201, "pending")).await;
    world.mock("GET", &app("/events"), events(&[status("deploying", None)])).await;
    let running = ResponseTemplate::new(200).set_body_json(status("running", None));
    world.mock("GET", &app("/status"), running).await;
    let ran = world.buddo(&CREATE).await;
    assert!(ran.out.contains("Status: pending → deploying → running\n"), "{ran}");
}

#[tokio::test]
async fn the_environment_file_is_sent_with_overrides() {
    let world = World::logged_in().await;
    world.mock("POST", APPS, enveloped(201, "pending")).await;
    let file = world.home.path().join(".env");
    std::fs::write(&file, "# mine\nA=file\nexport B=\"canary-env\\n\"\n").unwrap();
    let mut args = CREATE.to_vec();
    args.extend(["--env-file", file.to_str().unwrap(), "--env", "A=arg", "--env", "HOME"]);
    args.push("--no-follow");
    let ran = world.buddo(&args).await;
    assert!(ran.out.ends_with("Status: pending\n"), "{ran}");
    let sent: Value = world.requests("POST", APPS).await[0].body_json().unwrap();
    let home = world.home.path().to_str().unwrap();
    assert_eq!(sent["env_vars"], json!({ "A": "arg", "B": "canary-env\n", "HOME": home }));
}

#[tokio::test]
async fn read_commands_work_by_name_and_by_id() {
    let world = World::logged_in().await;
    world.mock("GET", APPS, listed("running")).await;
    world.mock("GET", &app(""), enveloped(200, "running")).await;
    world.mock("GET", "/api/deploy/tiers", tiers()).await;
    world
        .mock(
            "GET",
            "/api/auth/me",
            ResponseTemplate::new(200).set_body_json(json!({ "user": profile() })),
        )
        .await;
    let logs = json!({ "logs": [
        { "id": "1", "action": "create", "status": "completed", "initiated_by": ACCOUNT,
          "inserted_at": "2026-05-21T10:00:00Z", "details": null },
        { "id": "2", "action": "deploy", "status": "completed", "initiated_by": null,
          "inserted_at": "2026-05-21T10:00:05Z", "details": null },
    ]});
    world.mock("GET", &app("/logs"), ResponseTemplate::new(200).set_body_json(logs.clone())).await;
    let mut text = String::new();
    let commands: [&[&str]; 8] = [
        &["status", "my-app"],
        &["status", ID],
        &["list"],
        &["tiers"],
        &["deploy", "logs", ID],
        &["deploy", "logs", "my-app"],
        &["open", "my-app"],
        &["whoami"],
    ];
    for command in commands {
        let ran = world.buddo(command).await;
        write!(text, "$ buddo {}\n{ran}\n", command.join(" ")).unwrap();
    }
    let text = text.replace(&world.api.uri(), "http://API");
    insta::assert_snapshot!(text);

    let logs_json = world.buddo(&["--json", "deploy", "logs", ID]).await;
    assert_eq!(logs_json.json(), logs);
    let listed = world.buddo(&["list", "--json"]).await;
    assert_eq!(listed.json(), json!([deployment("running")]));
}

#[tokio::test]
async fn status_shows_progress_and_why_a_deploy_waits() {
    let world = World::logged_in().await;
    world.mock("GET", APPS, listed("deploying")).await;
    let mut now = status("deploying", None);
    now["waiting"] = failure("the registry is slow\nwait, it is tried again");
    now["progress"] = json!({ "phase": "pulling", "percent": 43 });
    world.mock("GET", &app("/status"), ResponseTemplate::new(200).set_body_json(&now)).await;
    let ran = world.buddo(&["status", "my-app"]).await;
    insta::assert_snapshot!(ran.out, @r"
    Deployment: my-app (550e8400-e29b-41d4-a716-446655440000)
    Status: deploying
    Health: unknown
    Last check: never
    URL: https://my-app.buddocloud.com
    Progress: pulling 43 %
    Waiting: the registry is slow
    Fix: wait, it is tried again
    ");
}

#[tokio::test]
async fn status_warns_of_a_lost_host_and_shows_restarts() {
    let world = World::logged_in().await;
    let mut lost = deployment("running");
    lost["warning"] = failure("the host h1 is lost\nwait for it");
    let lost = ResponseTemplate::new(200).set_body_json(json!({ "deployment": lost }));
    world.mock("GET", &app(""), lost).await;
    let ran = world.buddo(&["status", ID]).await;
    assert!(ran.out.ends_with("Warning: the host h1 is lost\nFix: wait for it\n"), "{ran}");
    // While a deploy is under way the newer answer counts.
    world.mock("GET", APPS, listed("deploying")).await;
    let mut now = status("deploying", None);
    now["restarts"] = json!(2);
    world.mock("GET", &app("/status"), ResponseTemplate::new(200).set_body_json(&now)).await;
    let ran = world.buddo(&["status", "my-app"]).await;
    assert!(ran.out.contains("Restarts: 2 in the last minutes\n"), "{ran}");
}

#[tokio::test]
async fn stops_restarts_and_destroys() {
    let world = World::logged_in().await;
    world.mock("GET", APPS, listed("running")).await;
    world.mock("GET", &app(""), enveloped(200, "running")).await;
    world.mock("POST", &app("/stop"), enveloped(200, "stopped")).await;
    world.mock("POST", &app("/restart"), enveloped(200, "deploying")).await;
    world.mock("GET", &app("/events"), events(&[status("running", None)])).await;
    let gone = json!({ "message": "Deployment destroyed", "id": ID });
    world.mock("DELETE", &app(""), ResponseTemplate::new(200).set_body_json(&gone)).await;
    let mut text = String::new();
    for command in
        [["deploy", "stop", ID], ["deploy", "restart", ID], ["deploy", "destroy", "my-app"]]
    {
        let ran = world.buddo(&command).await;
        write!(text, "$ buddo {}\n{ran}\n", command.join(" ")).unwrap();
    }
    insta::assert_snapshot!(text);
    assert_eq!(world.requests("DELETE", &app("")).await.len(), 1);
}

#[tokio::test]
async fn lists_revisions_and_rolls_back() {
    let world = World::logged_in().await;
    world.mock("GET", APPS, listed("running")).await;
    let list = json!({ "revisions": [{
        "revision": 1, "container_image": "docker.io/library/nginx:latest",
        "image_digest": format!("sha256:{}", "a".repeat(64)), "port": 80, "custom_domain": null,
        "strategy": "rolling", "current": true, "serving": true, "can_roll_back": true,
        "rollback_of": null, "live_at": "2026-05-21T10:00:05Z", "last_error": null, "failure": null,
        "inserted_at": "2026-05-21T10:00:00Z",
    }]});
    let listed = ResponseTemplate::new(200).set_body_json(list.clone());
    world.mock("GET", &app("/revisions"), listed).await;
    let mut rolled = deployment("deploying");
    rolled["revision"] = json!(4);
    let rolled = ResponseTemplate::new(200).set_body_json(json!({ "deployment": rolled }));
    world.mock("POST", &app("/rollback"), rolled).await;
    world.mock("GET", &app("/events"), events(&[status("running", None)])).await;
    let mut text = String::new();
    let commands: [&[&str]; 4] = [
        &["revisions", "my-app"],
        &["rollback", "my-app"],
        &["rollback", ID, "1"],
        &["rollback", ID, "1", "--no-follow"],
    ];
    for command in commands {
        let ran = world.buddo(command).await;
        write!(text, "$ buddo {}\n{ran}\n", command.join(" ")).unwrap();
    }
    insta::assert_snapshot!(text);
    let sent = world.requests("POST", &app("/rollback")).await;
    let bodies: Vec<Value> = sent.iter().map(|request| request.body_json().unwrap()).collect();
    assert_eq!(bodies, [json!({}), json!({ "revision": 1 }), json!({ "revision": 1 })]);
    let key = |index: usize| sent[index].headers["idempotency-key"].clone();
    assert_ne!(key(1), key(2), "each command is a request of its own");
    assert_eq!(world.buddo(&["revisions", ID, "--json"]).await.json(), list);
}

#[tokio::test]
async fn a_refused_rollback_prints_the_reason() {
    let world = World::logged_in().await;
    let missing = problem(404, "revision_not_found", "revision 1 is not kept any more");
    world.mock("POST", &app("/rollback"), missing).await;
    let ran = world.buddo(&["rollback", ID, "1"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (4, ""), "{ran}");
    assert_eq!(
        ran.err,
        "error: revision 1 is not kept any more\n\
         hint: see what there is with: buddo revisions NAME\n"
    );
}

#[tokio::test]
async fn the_strategy_is_validated_locally_and_sent() {
    let world = World::logged_in().await;
    world.mock("POST", APPS, enveloped(201, "pending")).await;
    let with = |strategy| [&CREATE[..], &["--no-follow", "--strategy", strategy]].concat();
    let ran = world.buddo(&with("sideways")).await;
    assert_eq!(ran.code, 5, "{ran}");
    assert!(ran.err.contains("--strategy: is not a strategy; use rolling or recreate"), "{ran}");
    world.buddo(&with("recreate")).await;
    let sent: Value = world.requests("POST", APPS).await[0].body_json().unwrap();
    assert_eq!(sent["strategy"], "recreate");
}

#[tokio::test]
async fn finds_a_name_on_a_later_page() {
    let world = World::logged_in().await;
    let next = format!("<{APPS}?limit=100&after=x>; rel=\"next\"");
    let other = {
        let mut d = deployment("running");
        d["subdomain"] = json!("other");
        d
    };
    let first = ResponseTemplate::new(200)
        .set_body_json(json!({ "deployments": [other] }))
        .insert_header("link", next.as_str());
    wiremock::Mock::given(wiremock::matchers::query_param("after", "x"))
        .respond_with(listed("running"))
        .with_priority(1)
        .mount(&world.api)
        .await;
    world.mock("GET", APPS, first).await;
    let ran = world.buddo(&["status", "my-app"]).await;
    assert!(ran.out.starts_with("Deployment: my-app"), "{ran}");
}

#[tokio::test]
async fn logout_revokes_and_deletes_the_tokens() {
    let world = World::logged_in().await;
    world.mock("POST", "/api/oauth/revoke", ResponseTemplate::new(200)).await;
    let ran = world.buddo(&["logout"]).await;
    assert_eq!(ran.out, format!("Logged out of {}\n", world.api.uri()));
    let sent = &world.requests("POST", "/api/oauth/revoke").await[0];
    let body = String::from_utf8(sent.body.clone()).unwrap();
    assert!(body.contains("token=canary-refresh-1") && body.contains("client_id=buddo-cli"));
    assert!(!std::fs::read_to_string(world.credentials()).unwrap().contains("canary"));
    assert_eq!(world.buddo(&["list"]).await.code, 3);
}

#[tokio::test]
async fn completions_and_manual_pages() {
    let world = World::new().await;
    for shell in ["bash", "zsh", "fish"] {
        let ran = world.buddo(&["completions", shell]).await;
        assert!(ran.code == 0 && ran.out.contains("restart"), "{ran}");
    }
    let folder = world.home.path().join("man");
    std::fs::create_dir(&folder).unwrap();
    let ran = world.buddo(&["man", folder.to_str().unwrap()]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{ran}");
    let page = std::fs::read_to_string(folder.join("buddo-deploy-restart.1")).unwrap();
    assert!(page.contains("no\\-follow"), "{page}");
    assert!(folder.join("buddo-rollback.1").exists());
}
