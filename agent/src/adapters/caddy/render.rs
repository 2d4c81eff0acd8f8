//! The text of Caddy's files. Pure; every value is either quoted or of a type that cannot hold a
//! space, a brace or a line feed.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use buddo_shared::model::id::DeploymentId;
use buddo_shared::model::name::{HostName, Subdomain};

use crate::adapters::caddy::error_log;
use crate::adapters::caddy::route_files::PATTERN;
use crate::adapters::resolver::SUFFIX;
use crate::config::{Certificate, Config, Issuer, Network};
use crate::model::live_table::EDGE_REFRESH;

/// The file that serves the zone.
const ZONE_FILE: &str = "zone.caddy";
/// Prefix of the files that serve one app's own domains.
const APP_FILES: &str = "app-";

/// Whether route files of this name are the agent's.
pub(super) fn is_route_file(name: &str) -> bool {
    name == ZONE_FILE || name.starts_with(APP_FILES)
}

/// How long Caddy holds a request while nothing is live.
const HOLD: &str = "10s";

/// The main Caddyfile: global options, and the import of the route files. Works with Caddy 2.6.2
/// and later, so it uses no newer option.
pub fn main_file(config: &Config) -> String {
    let caddy = &config.caddy;
    let mut options = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        options,
        "\tadmin {}\n\tstorage file_system {}\n\thttp_port {}\n\thttps_port {}\n",
        quoted(&format!("unix/{}", caddy.admin.display())),
        path(&caddy.storage),
        caddy.http_port,
        caddy.https_port,
    );
    options.push_str(&issuer(&caddy.issuer));
    let _ =
        writeln!(options, "\ton_demand_tls {{\n\t\task http://{}/ask\n\t}}", config.resolver.ask);
    let routes = quoted(&caddy.routes_dir.join(PATTERN).to_string_lossy());
    format!(
        "# Written by `buddo-agent caddyfile`. Options may be added; the import must stay as it is.\n\
         {{\n{options}\
         \t# A reload ends what still runs on the old configuration after this; the default is never.\n\
         \tgrace_period 10s\n\
         \t# Thousands of names must not each ask an OCSP responder.\n\
         \tocsp_stapling off\n\
         \tservers {{\n\t\ttimeouts {{\n\t\t\tread_header 10s\n\t\t\tidle 2m\n\t\t}}\n\t\t\
         max_header_size 64KB\n\t}}\n\
         \t# Requests for names that no site has would be written down whole, headers and all.\n\
         \tlog {{\n\t\texclude http.log.access\n\t}}\n}}\n\n\
         import {routes}\n"
    )
}

fn issuer(issuer: &Issuer) -> String {
    match issuer {
        // `skip_install_trust`: its root is handed out, not installed on this machine.
        Issuer::Internal {} => "\tlocal_certs\n\tskip_install_trust\n".to_owned(),
        Issuer::Acme { directory, ca_root, email } => [
            directory.as_ref().map(|url| format!("\tacme_ca {}\n", quoted(url))),
            ca_root.as_ref().map(|root| format!("\tacme_ca_root {}\n", path(root))),
            email.as_ref().map(|email| format!("\temail {}\n", quoted(email))),
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

/// A Caddyfile token for a path.
pub(super) fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// A Caddyfile token for text that an administrator configured. Everything but a backquote is
/// literal inside backquotes; control characters and backquotes do not belong in a path or URL.
fn quoted(text: &str) -> String {
    let plain: String = text.chars().filter(|c| *c != '`' && !c.is_control()).collect();
    format!("`{plain}`")
}

/// What route files are made from, besides the deployments.
#[derive(Debug, Clone, Copy)]
pub struct Edge<'a> {
    /// The zone that subdomains lie in.
    pub zone: &'a HostName,
    /// Addresses of the pages and the port that containers are published on.
    pub network: &'a Network,
    /// Where the resolver answers.
    pub dns: SocketAddrV4,
    /// A wildcard certificate for the zone; without, one per name on demand.
    pub certificate: Option<&'a Certificate>,
    /// Where failed requests are logged.
    pub error_log: &'a Path,
    /// How long browsers are to use only HTTPS for a name in the zone; 0: not sent.
    pub hsts_s: u32,
}

impl Edge<'_> {
    /// Name and text of the file that serves every subdomain of the zone, and the pages for apps
    /// that are not served.
    pub fn zone_file(&self) -> (String, String) {
        let tls = match self.certificate {
            Some(certificate) => {
                format!("\ttls {} {}\n", path(&certificate.cert), path(&certificate.key))
            }
            None => ON_DEMAND.to_owned(),
        };
        // Labels are counted from the right, from 0: the one left of the zone has the index of the
        // zone's label count.
        let app = format!("{{http.request.host.labels.{}}}", self.zone.labels());
        let proxy = self.proxy(&app, &self.hsts());
        let mut text = format!("*.{} {{\n{tls}{proxy}}}\n", self.zone);
        for page in self.pages() {
            text.push_str(&page);
        }
        (ZONE_FILE.to_owned(), text)
    }

    /// Name and text of the file that serves an app's own domains; `None` if it has none.
    pub fn domains_file(
        &self,
        id: DeploymentId,
        subdomain: &Subdomain,
        domains: &[HostName],
    ) -> Option<(String, String)> {
        let names: Vec<&str> = domains.iter().map(HostName::as_str).collect();
        if names.is_empty() {
            return None;
        }
        // No HSTS: the domain belongs to its owner, who may move it elsewhere tomorrow.
        let proxy = self.proxy(subdomain.as_str(), "");
        let text = format!("{} {{\n{ON_DEMAND}{proxy}}}\n", names.join(", "));
        Some((format!("{APP_FILES}{id}.caddy"), text))
    }

    /// `own`: extra headers of the page that says that the app does not answer.
    fn proxy(&self, app: &str, own: &str) -> String {
        let (port, dns) = (self.network.app_port, self.dns);
        let log = error_log::directive(self.error_log);
        let refresh = EDGE_REFRESH.as_millis();
        // No passive health checks: with `fail_duration` the hold address counts as down, and Caddy
        // answers 503 at once instead of holding. Caddy itself replaces the X-Forwarded-* headers a
        // visitor sends; the two others that apps may believe are replaced here.
        format!(
            "{log}\treverse_proxy {{\n\
             \t\tdynamic a {app}.{SUFFIX} {port} {{\n\
             \t\t\tresolvers udp/{dns}\n\
             \t\t\trefresh {refresh}ms\n\
             \t\t\tdial_timeout 1s\n\
             \t\t}}\n\
             \t\tlb_policy round_robin\n\
             \t\tlb_try_duration {HOLD}\n\
             \t\tlb_try_interval 10ms\n\
             \t\theader_up -Forwarded\n\
             \t\theader_up X-Real-Ip {{http.request.remote.host}}\n\
             \t}}\n\
             \thandle_errors {{\n{}{own}\
             \t\theader Retry-After 5\n\
             \t\trespond `{}` {{http.error.status_code}}\n\
             \t}}\n",
            headers("\t\t"),
            page("Not answering", "This app does not answer right now. Try again in a moment.")
        )
    }

    /// The header of [`Edge::hsts_s`], inside `handle_errors`.
    fn hsts(&self) -> String {
        match self.hsts_s {
            0 => String::new(),
            seconds => format!("\t\theader {HSTS} \"max-age={seconds}\"\n"),
        }
    }

    /// One site per special address, each bound to that address only.
    fn pages(&self) -> [String; 3] {
        let special = self.network.specials();
        [
            self.site(special.stopped, 503, "Stopped", "This app was stopped by its operator."),
            self.site(special.suspended, 503, "Suspended", "This app is suspended."),
            self.site(special.missing, 404, "No such app", "There is no app at this address."),
        ]
    }

    fn site(&self, address: Ipv4Addr, status: u16, title: &str, words: &str) -> String {
        // Visitors reach these via the zone and via the apps' own domains.
        let hsts = match self.hsts_s {
            0 => String::new(),
            seconds => format!(
                "\t@zone host *.{}\n\theader @zone {HSTS} \"max-age={seconds}\"\n",
                self.zone
            ),
        };
        format!(
            "http://:{} {{\n\
             \tbind {address}\n{}{hsts}\
             \trespond `{}` {status}\n\
             }}\n",
            self.network.app_port,
            headers("\t"),
            page(title, words)
        )
    }
}

const HSTS: &str = "Strict-Transport-Security";

/// Headers of every page of ours. It loads nothing and needs no device; what apps answer is theirs,
/// headers included.
fn headers(indent: &str) -> String {
    [
        "Content-Type \"text/html; charset=utf-8\"",
        "Cache-Control no-store",
        "X-Content-Type-Options nosniff",
        "Referrer-Policy no-referrer",
        "Content-Security-Policy \"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors \
         'none'; base-uri 'none'; form-action 'none'\"",
        "Permissions-Policy \"camera=(), display-capture=(), geolocation=(), microphone=(), \
         payment=(), publickey-credentials-get=(), serial=(), usb=(), web-share=()\"",
    ]
    .map(|header| format!("{indent}header {header}\n"))
    .concat()
}

const ON_DEMAND: &str = "\ttls {\n\t\ton_demand\n\t}\n";

/// A self-contained page that loads nothing from anywhere. `title` and `words` are constants.
fn page(title: &str, words: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width\"><title>{title}</title>\
         <style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:20vh auto;\
         padding:0 1rem;color:#222;background:#fff}}</style><h1>{title}</h1><p>{words}</p>"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network() -> Network {
        Network {
            slot_a: Ipv4Addr::new(127, 64, 0, 0),
            slot_b: Ipv4Addr::new(127, 96, 0, 0),
            special: Ipv4Addr::new(127, 63, 0, 1),
            app_port: 8000,
        }
    }

    fn with_edge<T>(zone: &str, check: impl FnOnce(Edge<'_>) -> T) -> T {
        let (zone, network) = (HostName::parse(zone).unwrap(), network());
        let dns = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5355);
        let error_log = Path::new("/var/log/errors.json");
        check(Edge {
            zone: &zone,
            network: &network,
            dns,
            certificate: None,
            error_log,
            hsts_s: 600,
        })
    }

    #[test]
    fn the_zone_file_matches_the_snapshot() {
        with_edge("buddocloud.com", |edge| insta::assert_snapshot!(edge.zone_file().1));
    }

    #[test]
    fn hsts_is_sent_only_in_the_zone_and_as_configured() {
        let subdomain = Subdomain::parse("blog").unwrap();
        let own = [HostName::parse("blog.example.org").unwrap()];
        let id = DeploymentId::new(uuid::Uuid::nil());
        let render = |hsts_s| {
            with_edge("buddocloud.com", |edge| {
                let edge = Edge { hsts_s, ..edge };
                (edge.zone_file().1, edge.domains_file(id, &subdomain, &own).unwrap().1)
            })
        };
        let (zone, domains) = render(600);
        assert_eq!(zone.matches("Strict-Transport-Security \"max-age=600\"").count(), 4);
        assert_eq!(zone.matches("\theader @zone Strict-Transport-Security").count(), 3);
        assert!(!domains.contains("Strict-Transport-Security"), "{domains}");
        for text in [&zone, &domains] {
            let pages = text.matches("\trespond `").count();
            assert_eq!(text.matches("X-Content-Type-Options nosniff").count(), pages);
            assert_eq!(text.matches("header Permissions-Policy ").count(), pages);
        }
        assert!(!render(0).0.contains("Strict-Transport-Security"));
    }

    #[test]
    fn the_app_is_the_label_left_of_the_zone() {
        for (zone, label) in [("buddocloud.com", 2), ("apps.eu.example.org", 4)] {
            let text = with_edge(zone, |edge| edge.zone_file().1);
            assert!(text.contains(&format!("a {{http.request.host.labels.{label}}}.apps")));
        }
    }

    #[test]
    fn a_wildcard_certificate_replaces_on_demand_tls() {
        let certificate = Certificate { cert: "/c/cert.pem".into(), key: "/c/key.pem".into() };
        let text = with_edge("example.org", |edge| {
            Edge { certificate: Some(&certificate), ..edge }.zone_file().1
        });
        assert!(text.contains("\ttls `/c/cert.pem` `/c/key.pem`\n") && !text.contains("on_demand"));
    }

    #[test]
    fn administrators_text_stays_one_token() {
        assert_eq!(quoted("a b`\n} evil"), "`a b} evil`");
    }

    /// Braces open and close, and never go below zero.
    fn balanced(text: &str) -> bool {
        let mut depth = 0_i32;
        text.bytes().all(|byte| {
            depth += i32::from(byte == b'{') - i32::from(byte == b'}');
            depth >= 0
        }) && depth == 0
    }

    proptest! {
        /// `fm_30`: whatever names the parsers accept, a domains file has exactly one site block
        /// and the lines of that block: tenant text opens, closes and adds nothing.
        #[test]
        fn fm_30_tenant_text_cannot_inject(
            subdomain in "(?s).{1,40}|[a-z0-9-]{1,32}",
            domains in proptest::collection::vec("(?s).{1,60}|[a-z0-9.-]{3,40}", 1..4),
        ) {
            let Ok(subdomain) = Subdomain::parse(&subdomain) else { return Ok(()) };
            let domains: Vec<_> =
                domains.iter().filter_map(|domain| HostName::parse(domain).ok()).collect();
            prop_assume!(!domains.is_empty());
            let id = DeploymentId::new(uuid::Uuid::nil());
            let render = |sub: &Subdomain, names: &[HostName]| {
                with_edge("buddocloud.com", |edge| edge.domains_file(id, sub, names)).unwrap().1
            };
            let text = render(&subdomain, &domains);
            let plain = render(
                &Subdomain::parse("x").unwrap(),
                &[HostName::parse("x.example.org").unwrap()],
            );
            prop_assert!(balanced(&text));
            prop_assert_eq!(text.lines().count(), plain.lines().count());
            let differ = text.lines().zip(plain.lines()).filter(|(a, b)| a != b).count();
            prop_assert!(differ <= 2);
        }
    }
}
