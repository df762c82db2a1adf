//! "Did you mean": the known name nearest to what was written.

/// The cure for an unknown name: the nearest one, or all of them.
pub(super) fn cure<'n>(what: &str, written: &str, known: impl Iterator<Item = &'n str>) -> String {
    let known: Vec<&str> = known.collect();
    if let Some(name) = nearest(written, &known) {
        return format!("did you mean `{name}`?");
    }
    if known.is_empty() {
        return format!("there are no {what} yet; add one");
    }
    let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    format!("{what} here: {}", list.join(", "))
}

/// The known name that is at most a third of its letters away.
fn nearest<'n>(written: &str, known: &[&'n str]) -> Option<&'n str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let wanted = plain(written);
    known
        .iter()
        .map(|name| (distance(&wanted, &plain(name)), *name))
        .filter(|(distance, name)| *distance < name.len() && *distance <= (name.len() / 3).max(1))
        .min()
        .map(|(_, name)| name)
}

/// Letters to add, remove, change, or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_meant() {
        let known = ["memory", "readers", "encoders", "grace"];
        for (written, want) in [
            ("memry", Some("memory")),
            ("Memory", Some("memory")),
            ("reader", Some("readers")),
            ("endcoers", Some("encoders")),
            ("xyz", None),
        ] {
            assert_eq!(nearest(written, &known), want, "{written}");
        }
        assert_eq!(
            cure("keys", "q", ["a", "b"].into_iter()),
            "keys here: `a`, `b`"
        );
    }
}
