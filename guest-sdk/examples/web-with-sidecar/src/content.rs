//! The sidecar of the pair: writes a fresh page into the shared directory every second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use freewheel_guest::stop;

fn main() -> std::io::Result<()> {
    let title = std::env::var("TITLE").unwrap_or_else(|_| "Freewheel".to_owned());
    for count in 1u64.. {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let page = format!("<h1>{title}</h1><p>page {count}, written at {now}</p>\n");
        // A reader sees the old page or the new one, never half of one.
        std::fs::write("/srv/.index.html", page)?;
        std::fs::rename("/srv/.index.html", "/srv/index.html")?;
        println!("wrote page {count}");
        std::thread::sleep(Duration::from_secs(1));
        // Nothing to finish: the pod need not wait until its grace period is over.
        if stop::grace_left().is_some() {
            println!("stopped");
            break;
        }
    }
    Ok(())
}
