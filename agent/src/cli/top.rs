//! `tailwake top`: a running agent's account, looked at again and again.
//!
//! ```text
//! /status -> cells -> filter, sort -> a screen       keys: < > r / q
//! ```
//!
//! Where standard output is no terminal it is printed once.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::ask::{Said, Where};
use crate::account::table::{HEAD, aligned, cells};

/// Where sorting begins: the lag in bytes, most first.
const LAG: usize = 8;

/// Options of `tailwake top`.
#[derive(Debug, Args)]
pub(super) struct Top {
    #[command(flatten)]
    agent: Where,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// Show only lines with this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Sort by the column of this name.
    #[arg(long, value_name = "COLUMN", value_parser = HEAD)]
    sort: Option<String>,
}

/// Shows it until `q` is pressed; prints it once where there is no terminal.
///
/// # Errors
/// The terminal's, or the agent's when nothing has been shown yet.
pub(super) fn run(top: &Top) -> anyhow::Result<ExitCode> {
    let address = top.agent.address()?;
    let mut view = View::new(&top.filter, top.sort.as_deref());
    let mut said = Said::of(address)?;
    let (input, mut out) = (std::io::stdin(), std::io::stdout().lock());
    if !out.is_terminal() || !input.is_terminal() {
        write!(out, "{}", view.page(&said))?;
        return Ok(ExitCode::SUCCESS);
    }
    let screen = Screen::enter()?;
    let mut failed = None;
    'looks: loop {
        let next = Instant::now() + Duration::from_secs(top.every);
        loop {
            let size = tcgetwinsize(&out)?;
            let page = view.screen(&said, failed.as_deref(), size.ws_row, size.ws_col);
            out.write_all(page.as_bytes())?;
            out.flush()?;
            let left = next.saturating_duration_since(Instant::now());
            let Some(key) = key(&input, left)? else { break };
            if view.key(key) {
                break 'looks;
            }
        }
        match Said::of(address) {
            Ok(now) => (said, failed) = (now, None),
            Err(error) => failed = Some(format!("{error:#}")),
        }
    }
    drop(screen);
    Ok(ExitCode::SUCCESS)
}

/// The next key within `left`; the end of input is a `q`.
fn key(input: &std::io::Stdin, left: Duration) -> anyhow::Result<Option<u8>> {
    let mut fds = [PollFd::new(input, PollFlags::IN)];
    let wait = Timespec {
        tv_sec: i64::try_from(left.as_secs())?,
        tv_nsec: left.subsec_nanos().into(),
    };
    match poll(&mut fds, Some(&wait)) {
        Ok(0) => return Ok(None),
        // The window's size has changed: it is drawn again at the next look.
        Err(rustix::io::Errno::INTR) => return Ok(Some(0)),
        other => drop(other?),
    }
    let mut byte = [0];
    let read = input.lock().read(&mut byte)?;
    Ok(Some(if read == 0 { b'q' } else { byte[0] }))
}

/// The terminal without echo, on its other screen; as it was when this is dropped.
struct Screen(Termios);

impl Screen {
    fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        let screen = Self(before);
        write!(std::io::stdout(), "\x1b[?1049h\x1b[?25l")?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write!(std::io::stdout(), "\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What is shown, in which order.
#[derive(Debug)]
struct View {
    filter: String,
    /// Keys go to the filter.
    typing: bool,
    column: usize,
    falling: bool,
}

impl View {
    fn new(filter: &str, sort: Option<&str>) -> Self {
        let column = sort.and_then(|name| HEAD.iter().position(|head| *head == name));
        let column = column.unwrap_or(LAG);
        Self {
            filter: filter.to_owned(),
            typing: false,
            column,
            falling: column >= 2,
        }
    }

    /// Heeds a key; says whether it ends the view.
    fn key(&mut self, key: u8) -> bool {
        match key {
            // Ctrl-C: a raw terminal sends no signal.
            3 => return true,
            b'\r' | b'\n' if self.typing => self.typing = false,
            27 if self.typing => {
                (self.typing, self.filter) = (false, String::new());
            }
            8 | 127 if self.typing => drop(self.filter.pop()),
            32..=126 if self.typing => self.filter.push(char::from(key)),
            b'q' => return true,
            b'/' => self.typing = true,
            b'r' => self.falling = !self.falling,
            b'>' => self.column = (self.column + 1) % HEAD.len(),
            b'<' => self.column = (self.column + HEAD.len() - 1) % HEAD.len(),
            _ => {}
        }
        false
    }

    fn lines(&self, said: &Said) -> Vec<String> {
        let mut rows = cells(&said.containers);
        rows.retain(|row| row.iter().any(|cell| cell.contains(&self.filter)));
        rows.sort_by(|a, b| {
            let (a, b) = (&a[self.column], &b[self.column]);
            let order = match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(a), Ok(b)) => a.total_cmp(&b),
                // What is not known stands where the worst does.
                (Ok(_), Err(_)) => std::cmp::Ordering::Less,
                (Err(_), Ok(_)) => std::cmp::Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            };
            if self.falling { order.reverse() } else { order }
        });
        rows.insert(0, HEAD.map(str::to_owned).to_vec());
        aligned(&rows).lines().map(str::to_owned).collect()
    }

    /// All lines, for a file or a pipe.
    fn page(&self, said: &Said) -> String {
        self.lines(said).join("\n") + "\n"
    }

    /// As much as the screen has room for.
    fn screen(&self, said: &Said, failed: Option<&str>, height: u16, width: u16) -> String {
        let (height, width) = (usize::from(height).max(4), usize::from(width).max(20));
        let fit = |line: &str| line.chars().take(width).collect::<String>();
        let state = failed.map_or_else(
            || format!("{} containers", said.containers.len()),
            |why| format!("the figures are old: {why}"),
        );
        let arrow = if self.falling { "falling" } else { "rising" };
        let sort = format!("by {} {arrow}", HEAD[self.column]);
        let cursor = if self.typing { "_" } else { "" };
        let head = format!("tailwake  {state}  {sort}  filter: {}{cursor}", self.filter);
        let help = "< > column   r turn round   / filter (Enter, Esc)   q quit";
        let mut page = format!("\x1b[H{}\x1b[K\r\n", fit(&head));
        for (at, line) in self.lines(said).iter().take(height - 2).enumerate() {
            let line = fit(line);
            page += &if at == 0 {
                format!("\x1b[7m{line}\x1b[0m\x1b[K\r\n")
            } else {
                format!("{line}\x1b[K\r\n")
            };
        }
        page + "\x1b[J" + &format!("\x1b[{height};1H") + &fit(help)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn said() -> Said {
        let row = |pod: &str, lag: u64, lost: Option<u64>| {
            serde_json::json!({
                "namespace": "ns", "pod": pod, "container": "app", "uid": "u", "log": pod,
                "written_bytes": 100, "written_known_bytes": 100, "written_source": "stat",
                "gap": null, "write_rate": null, "read_before_bytes": 0, "read_lines": 1,
                "read_bytes": 100, "reread_bytes": 0, "hole_bytes": 0, "unread_bytes": 0,
                "unfinished_bytes": 0, "unread_lost_bytes": 0, "unproven_bytes": 0,
                "outputs": {"loki": {
                    "before_bytes": 0, "lines": 1, "bytes": 100 - lag, "hole_bytes": 0,
                    "in_flight_bytes": 0, "lost_bytes": lost, "lost_known_bytes": 0,
                    "lag_bytes": lag, "lag_secs": 0.0, "rotated_away_secs": null,
                    "delivered_lines": 1, "rejected_lines": 0, "withheld_lines": 0,
                    "unproven_lines": 0, "unproven_bytes": 0, "state": "behind",
                }},
            })
        };
        let containers = [
            row("calm", 2, Some(0)),
            row("busy", 30, None),
            row("idle", 0, Some(0)),
        ];
        let beyond = serde_json::to_value(crate::account::Beyond::default()).unwrap();
        let said = serde_json::json!({"beyond": beyond, "containers": containers});
        serde_json::from_value(said).unwrap()
    }

    fn order(view: &View) -> Vec<String> {
        let lines = view.lines(&said());
        let name = |line: &String| line.split('/').nth(1).unwrap().to_owned();
        lines[1..].iter().map(name).collect()
    }

    fn press(view: &mut View, keys: &str) -> bool {
        keys.bytes().any(|key| view.key(key))
    }

    #[test]
    fn keys_sort_filter_and_quit() {
        let mut view = View::new("", None);
        assert_eq!(order(&view), ["busy", "calm", "idle"]);
        press(&mut view, "r");
        assert_eq!(order(&view), ["idle", "calm", "busy"]);
        // The column before: what is lost; unknown counts for more than any figure.
        press(&mut view, "r<");
        assert_eq!(order(&view)[0], "busy");
        assert!(!press(&mut view, "/ns/cq\u{7f}\r"));
        assert_eq!(order(&view), ["calm"]);
        press(&mut view, "/\u{1b}");
        assert_eq!(order(&view).len(), 3);
        assert!(press(&mut view, "q"));
    }

    #[test]
    fn a_screen_is_never_larger_than_the_terminal() {
        let page = View::new("", None).screen(&said(), None, 4, 30);
        assert_eq!(page.matches("\r\n").count(), 3, "{page:?}");
        assert!(page.contains("3 containers"), "{page:?}");
    }
}
