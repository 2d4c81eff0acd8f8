//! What goes wrong, and how `buddo` says so: exit code, cause, hint.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;
use wiremock::ResponseTemplate;

use crate::common::*;

/// The whole table of exit codes, each reached for real.
#[tokio::test]
async fn every_exit_code_is_reached() {
    let world = World::logged_in().await;
    world.mock("GET", "/api/deploy/tiers", tiers()).await;
    let other = "550e8400-e29b-41d4-a716-446655440001";
    let foreign = problem(403, "forbidden", "the deployment belongs to another operator");
    world.mock("GET", &format!("{APPS}/{other}"), foreign).await;
    let missing = problem(404, "not_found", "there is no such deployment");
    world.mock("GET", &app(""), missing).await;
    let busy = problem(429, "rate_limited", "more than 30 requests a minute; wait 17 seconds")
        .insert_header("retry-after", "17");
    world.mock("GET", &app("/logs"), busy).await;
    let broken = problem(500, "internal", "something broke here; it is logged");
    world.mock("POST", &app("/restart"), broken).await;
    let state = problem(422, "illegal_state", "the deployment is destroyed");
    world.mock("POST", &app("/stop"), state).await;

    let without_tier = &CREATE[..7];
    let bad_name = [&["deploy", "--name", "My-App", "--port", "0"], &CREATE[3..5]].concat();
    let commands: [(i32, &[&str]); 9] = [
        (2, &["deploy", "--name", "my-app"]),
        (2, without_tier),
        (4, &["status", ID]),
        (5, &bad_name),
        (5, &["deploy", "stop", ID]),
        (6, &["deploy", "logs", ID]),
        (7, &["deploy", "restart", ID]),
        (7, &["list", "--api", "http://127.0.0.1:1"]),
        (9, &["status", other]),
    ];
    let mut text = String::new();
    for (code, command) in commands {
        // The session of an API that is not there has to be there.
        let ran = if code == 7 && command[0] == "list" {
            let file = std::fs::read_to_string(world.credentials()).unwrap();
            std::fs::write(
                world.credentials(),
                file.replace(&world.api.uri(), "http://127.0.0.1:1"),
            )
            .unwrap();
            let ran = world.buddo(command).await;
            std::fs::write(world.credentials(), file).unwrap();
            ran
        } else {
            world.buddo(command).await
        };
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{command:?}: {ran}");
        write!(text, "$ buddo {}\nexit {code}\n{}\n", command.join(" "), ran.err).unwrap();
    }
    insta::assert_snapshot!(text);
    assert!(world.requests("POST", APPS).await.is_empty(), "nothing bad was sent");
}

#[tokio::test]
async fn errors_are_json_on_request() {
    let world = World::new().await;
    let ran = world.buddo(&["list", "--json"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["error"]["kind"], "not_logged_in");
    assert_eq!(error["error"]["hint"], "log in with: buddo login");
}

#[tokio::test]
async fn a_wrong_password_is_reported() {
    let world = World::new().await;
    let wrong = problem(401, "invalid_credentials", "the mail address or the password is wrong");
    world.mock("POST", "/api/auth/login", wrong).await;
    let ran = world.buddo_with(&["login"], "you@example.com\ncanary-password\n").await;
    assert_eq!(ran.code, 3);
    assert_eq!(ran.err, "error: the mail address or the password is wrong\n");
    assert!(!world.credentials().exists());
    let empty = world.buddo(&["login"]).await;
    assert_eq!(empty.code, 2, "{empty}");
}

#[tokio::test]
async fn a_failed_deploy_names_cause_and_fix() {
    let world = World::logged_in().await;
    world.mock("POST", APPS, enveloped(201, "pending")).await;
    let why = "the image docker.io/library/nginx:latest does not exist\npush it, then restart";
    let seen = [status("deploying", None), status("stopped", Some(why))];
    world.mock("GET", &app("/events"), events(&seen)).await;
    let ran = world.buddo(&CREATE).await;
    assert_eq!(ran.code, 8);
    assert!(ran.out.ends_with("Status: pending → deploying → stopped\n"), "{ran}");
    assert_eq!(
        ran.err,
        "error: the deploy of \"my-app\" failed: the image docker.io/library/nginx:latest does not \
         exist\nhint: push it, then restart\n"
    );
}

#[tokio::test]
async fn usage_errors_are_json_with_the_json_option() {
    let world = World::new().await;
    let lines: [(&[&str], &str, &str); 4] = [
        (&["deploy", "--name", "a", "--json"], "--image <IMAGE>", "see: buddo deploy --help"),
        (&["--json", "list", "--nosuch"], "'--nosuch'", "see: buddo list --help"),
        (&["--json", "keys"], "requires a subcommand", "see: buddo keys --help"),
        (&["frobnicate", "--json"], "'frobnicate'", "see: buddo --help"),
    ];
    for (line, about, hint) in lines {
        let ran = world.buddo(line).await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{line:?}: {ran}");
        let error: serde_json::Value =
            serde_json::from_str(&ran.err).unwrap_or_else(|e| panic!("{line:?}: {e}: {ran}"));
        let error = &error["error"];
        assert_eq!((&error["kind"], &error["hint"]), (&json!("usage"), &json!(hint)), "{ran}");
        let told = format!("{} {}", error["message"], error["details"]);
        assert!(told.contains(about), "{line:?}: {told}");
        let text = error["message"].as_str().unwrap();
        assert!(!text.starts_with("error:") && !text.contains('\u{1b}'), "{text}");
    }
    let after = world.buddo(&["open", "--nosuch", "--", "--json"]).await;
    assert!(after.err.starts_with("error: "), "what follows -- is not an option: {after}");
    let help = world.buddo(&["--json", "--help"]).await;
    assert_eq!((help.code, help.err.as_str()), (0, ""), "help is a result, for people");
    assert!(help.out.contains("Usage: buddo"), "{help}");
}

#[tokio::test]
async fn a_deploy_with_a_warning_succeeds_and_prints_it() {
    let world = World::logged_in().await;
    world.mock("POST", APPS, enveloped(201, "pending")).await;
    let late = "there is no certificate for www.example.com yet\npoint its CNAME at my-app";
    let mut running = status("running", None);
    running["warning"] = failure(late);
    world.mock("GET", &app("/events"), events(&[status("deploying", None), running])).await;
    world.mock("GET", &app(""), enveloped(200, "running")).await;
    let ran = world.buddo(&CREATE).await;
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.ends_with("running\nLive at: https://my-app.buddocloud.com\n"), "{ran}");
    assert_eq!(
        ran.err,
        "warning: there is no certificate for www.example.com yet\n\
         hint: point its CNAME at my-app\n"
    );
    let ran = world.buddo(&[&CREATE[..], &["--json"]].concat()).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran}");
    assert_eq!(ran.json()["status"], "running");
}

#[tokio::test]
async fn a_failed_restart_that_still_serves_is_a_failure() {
    let world = World::logged_in().await;
    let mut restarted = deployment("deploying");
    restarted["revision"] = json!(2);
    let restarted = ResponseTemplate::new(200).set_body_json(json!({ "deployment": restarted }));
    world.mock("POST", &app("/restart"), restarted).await;
    let seen = [status("running", Some("nothing listens on port 80\nset --port"))];
    world.mock("GET", &app("/events"), events(&seen)).await;
    let ran = world.buddo(&["deploy", "restart", ID]).await;
    assert_eq!(ran.code, 8, "{ran}");
    assert!(ran.err.contains("nothing listens on port 80"), "{ran}");
}

#[tokio::test]
async fn waiting_ends_at_the_timeout() {
    let world = World::logged_in().await;
    world.mock("POST", APPS, enveloped(201, "pending")).await;
    let pending = ResponseTemplate::new(200).set_body_json(status("pending", None));
    world.mock("GET", &app("/status"), pending).await;
    let mut args = CREATE.to_vec();
    args.extend(["--timeout", "1"]);
    let ran = world.buddo(&args).await;
    assert_eq!(ran.code, 10, "{ran}");
    assert!(ran.err.contains("the deploy goes on") && ran.err.contains("buddo status my-app"));
}

#[tokio::test]
async fn ctrl_c_stops_watching_but_not_the_deploy() {
    let world = World::logged_in().await;
    world.mock("POST", APPS, enveloped(201, "pending")).await;
    let silent = events(&[]).set_delay(Duration::from_mins(1));
    world.mock("GET", &app("/events"), silent).await;
    let child = world.command(&CREATE).spawn().unwrap();
    while world.requests("GET", &app("/events")).await.is_empty() {
        tokio::task::yield_now().await;
    }
    let pid = child.id().unwrap().to_string();
    let sent = tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    assert!(sent.success());
    let ran = finish(child).await;
    assert_eq!(ran.code, 130);
    assert_eq!(
        ran.err,
        "error: stopped watching; the deploy of \"my-app\" goes on\n\
         hint: look again with: buddo status my-app\n"
    );
    assert!(world.requests("DELETE", &app("")).await.is_empty());
}

#[tokio::test]
async fn waits_out_a_rate_limit_while_polling() {
    let world = World::logged_in().await;
    world.mock("POST", APPS, enveloped(201, "pending")).await;
    let busy = problem(429, "rate_limited", "slow down").insert_header("retry-after", "1");
    wiremock::Mock::given(wiremock::matchers::path(app("/status")))
        .respond_with(busy)
        .up_to_n_times(1)
        .with_priority(1)
        .mount(&world.api)
        .await;
    let running = ResponseTemplate::new(200).set_body_json(status("running", None));
    world.mock("GET", &app("/status"), running).await;
    let ran = world.buddo(&CREATE).await;
    assert_eq!(ran.code, 0, "{ran}");
}

#[tokio::test]
async fn a_missing_or_exposed_session_is_refused_before_any_request() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new().await;
    let ran = world.buddo(&["list"]).await;
    assert_eq!(ran.code, 3, "{ran}");

    let world = World::logged_in().await;
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(world.credentials(), open).unwrap();
    let ran = world.buddo(&["list"]).await;
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.err.contains("is open to other users (mode 0644)"), "{ran}");
    assert!(ran.err.contains("chmod 600"), "{ran}");
    assert!(world.requests("GET", APPS).await.is_empty());
}

#[tokio::test]
async fn responses_not_from_the_api_are_refused() {
    let world = World::logged_in().await;
    let page = ResponseTemplate::new(200).set_body_raw("<html>", "text/html");
    world.mock("GET", APPS, page).await;
    let ran = world.buddo(&["list"]).await;
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.err.contains("cannot understand the answer"), "{ran}");

    let bad = ResponseTemplate::new(502).set_body_raw("<html>Bad Gateway", "text/html");
    world.mock("GET", "/api/deploy/tiers", bad).await;
    let ran = world.buddo(&["tiers"]).await;
    assert_eq!(ran.code, 7, "{ran}");
    let tries = world.requests("GET", "/api/deploy/tiers").await.len();
    assert_eq!(tries, 4, "a read is tried again, and not for ever");
}

#[tokio::test]
async fn fields_refused_by_the_api_are_named_by_their_options() {
    let world = World::logged_in().await;
    let body = json!({
        "type": "t", "title": "Some fields are not valid", "status": 422,
        "detail": "subdomain is taken; choose another name",
        "code": "validation_failed", "error": "e",
        "errors": [{ "pointer": "/subdomain", "detail": "is taken; choose another name" }],
    });
    world.mock("POST", APPS, ResponseTemplate::new(422).set_body_json(body)).await;
    let ran = world.buddo(&CREATE).await;
    assert_eq!(ran.code, 5);
    assert_eq!(
        ran.err,
        "error: Some fields are not valid\n  --name: is taken; choose another name\n"
    );
}
