//! Findings as text: for people at a terminal, for `grep`, for programs.

use std::fmt::Write as _;

use buddo_shared::terminal::{clean, escape_json};

use super::{Finding, Severity};

/// What the JSON form holds.
#[derive(serde::Serialize)]
struct Findings<'a> {
    severity: Severity,
    findings: &'a [Finding],
}

pub(super) fn json(findings: &[Finding]) -> serde_json::Result<String> {
    let severity = super::worst(findings);
    serde_json::to_string_pretty(&Findings { severity, findings })
        .map(|text| escape_json(&text).into_owned() + "\n")
}

/// For a terminal: columns, with the fix below each problem.
pub(super) fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let mut text = String::new();
    // Writing to a string cannot fail.
    for Finding { check, severity, says, fix } in findings {
        let _ = writeln!(text, "{:7}  {check:width$}  {}", word(*severity), clean(says));
        if let Some(fix) = fix {
            let _ = writeln!(text, "{:7}  {:width$}  → {}", "", "", clean(fix));
        }
    }
    let of = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (failures, warnings) = (of(Severity::Failure), of(Severity::Warning));
    let _ = match (failures, warnings) {
        (0, 0) => writeln!(text, "\nAll is well."),
        _ => writeln!(text, "\n{failures} failed, {warnings} to look at."),
    };
    text
}

/// For a pipe: one line each, fields separated by tabs.
pub(super) fn lines(findings: &[Finding]) -> String {
    findings.iter().fold(String::new(), |mut text, finding| {
        let fields = [
            word(finding.severity),
            finding.check,
            &finding.says,
            finding.fix.as_deref().unwrap_or_default(),
        ];
        // Foreign text (Podman, the kernel) must not split fields or lines.
        let fields = fields.map(|field| field.replace(char::is_control, " "));
        let _ = writeln!(text, "{}", fields.join("\t").trim_end());
        text
    })
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Failure => "FAILED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding { check: "user", severity: Severity::Ok, says: "buddo".into(), fix: None },
            Finding {
                check: "podman",
                severity: Severity::Failure,
                says: "no answer:\tcannot\nconnect\u{9b}2J".into(),
                fix: Some("start it".into()),
            },
        ]
    }

    #[test]
    fn terminal_output_has_columns_with_the_fix_below() {
        assert_eq!(table(&findings()[..1]), "ok       user  buddo\n\nAll is well.\n",);
        let text = table(&findings());
        assert!(text.contains("\n                 → start it\n"), "{text}");
        assert!(text.contains("no answer:\u{fffd}cannot\u{fffd}connect\u{fffd}2J\n"), "{text}");
        assert!(text.ends_with("\n1 failed, 0 to look at.\n"), "{text}");
    }

    #[test]
    fn piped_output_has_one_line_per_finding() {
        assert_eq!(
            lines(&findings()),
            "ok\tuser\tbuddo\nFAILED\tpodman\tno answer: cannot connect 2J\tstart it\n",
        );
    }

    #[test]
    fn json_output_has_the_worst_severity_and_every_finding() {
        let text = json(&findings()).unwrap();
        assert!(!text.contains('\u{9b}'), "{text:?}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["severity"], "failure");
        assert_eq!(value["findings"][1]["fix"], "start it");
        assert!(value["findings"][0].get("fix").is_none());
    }

    #[test]
    fn a_fix_has_no_control_characters() {
        let fix = Some("start\u{1b}[2J\nit".into());
        let finding = Finding { check: "x", severity: Severity::Failure, says: "y".into(), fix };
        let text = table(&[finding]);
        assert!(text.contains("→ start\u{fffd}[2J\u{fffd}it\n"), "{text:?}");
    }
}
