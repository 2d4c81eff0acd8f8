//! The table that the suite prints: check, figure, bar.

use std::time::Instant;

/// What a check measured, in words, and whether that is within its bar.
#[derive(Debug)]
pub struct Figure {
    pub text: String,
    pub held: bool,
}

impl Figure {
    pub fn new(text: impl Into<String>, held: bool) -> Self {
        Self { text: text.into(), held }
    }
}

/// The rows so far.
#[derive(Debug, Default)]
pub struct Report {
    rows: u32,
    failed: Vec<u32>,
}

impl Report {
    #[expect(clippy::print_stdout, reason = "the command's result")]
    pub fn head() {
        println!("{:>3} {:4} {:46} {:58} bar", "", "", "check", "figure");
    }

    /// Runs a check and prints its row. One that cannot measure has failed, and its error is the
    /// figure; the suite goes on.
    pub async fn check(
        &mut self,
        what: &str,
        bar: &str,
        check: impl Future<Output = anyhow::Result<Figure>>,
    ) -> bool {
        let began = Instant::now();
        let figure = match check.await {
            Ok(figure) => figure,
            Err(error) => Figure::new(format!("{error:#}"), false),
        };
        tracing::info!("{what}: {:.1} s", began.elapsed().as_secs_f64());
        self.row(what, &figure, bar);
        figure.held
    }

    /// A row for a check that has already been made.
    #[expect(clippy::print_stdout, reason = "the command's result")]
    pub fn row(&mut self, what: &str, figure: &Figure, bar: &str) {
        self.rows += 1;
        if !figure.held {
            self.failed.push(self.rows);
        }
        let verdict = if figure.held { "ok" } else { "FAIL" };
        println!("{:>3} {verdict:4} {what:46} {:58} {bar}", self.rows, one_line(&figure.text));
    }

    /// Fails if a check has.
    pub fn verdict(&self) -> anyhow::Result<()> {
        let (failed, rows) = (self.failed.len(), self.rows);
        anyhow::ensure!(failed == 0, "{failed} of {rows} checks failed: {:?}", self.failed);
        Ok(())
    }
}

/// A row stays a row, whatever a program in the machine has printed.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_check_is_counted_and_the_next_one_runs() {
        let mut report = Report::default();
        assert!(report.check("a", "1", async { Ok(Figure::new("1", true)) }).await);
        assert!(report.verdict().is_ok());
        assert!(!report.check("b", "1", async { anyhow::bail!("cannot measure") }).await);
        assert!(!report.check("c", "1", async { Ok(Figure::new("2", false)) }).await);
        let error = report.verdict().unwrap_err().to_string();
        assert_eq!(error, "2 of 3 checks failed: [2, 3]");
    }
}
