//! clap's message about a command line, as one of our errors: programs that asked for JSON get it
//! for this one as well.

use crate::error::{CliError, Kind};

/// clap's text is `error: MESSAGE`, then blocks such as a tip, the usage and where help is.
pub(super) fn in_our_form(error: &clap::Error) -> CliError {
    let text = error.render().to_string();
    let hint = format!("see: {} --help", command(&text));
    let mut blocks = text.split("\n\n").map(str::trim).filter(|block| {
        !block.is_empty() && !block.starts_with("Usage:") && !block.starts_with("For more")
    });
    let first = blocks.next().unwrap_or("the command line is wrong");
    let mut lines = first.lines().map(str::trim);
    let message = lines.next().unwrap_or(first);
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let details = lines.chain(blocks).map(str::to_owned).collect();
    CliError::new(Kind::Usage, message).details(details).hint(hint)
}

/// The intended command, as far as it was understood: the words of the usage line that are
/// not options.
fn command(text: &str) -> String {
    let usage = text.lines().find_map(|line| line.trim().strip_prefix("Usage: "));
    let words = usage.unwrap_or("buddo").split_whitespace();
    let words = words.take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
    words.collect::<Vec<_>>().join(" ")
}
