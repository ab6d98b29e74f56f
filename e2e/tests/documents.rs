//! The documents speak of this tree, and the configurations in them are good.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidemill_common::config::Settings;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The TOML blocks of a document, in order.
fn samples(document: &str) -> Vec<String> {
    let blocks = document.split("```toml\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// The settings that a text gives, as TOML. Files with database URLs are looked for in `folder`.
fn settings(toml: &str, folder: &Path) -> String {
    let mut text = String::new();
    for line in toml.lines() {
        match line.strip_prefix("url_file = \"") {
            None => text.push_str(line),
            Some(path) => {
                let name = path.trim_end_matches('"').rsplit('/').next().unwrap_or_default();
                let file = folder.join(name);
                fs::write(&file, format!("postgresql://tidemill@localhost/{name}"))
                    .expect("a temporary file");
                text += &format!("url_file = {file:?}");
            }
        }
        text.push('\n');
    }
    match Settings::from_text(&text, &[]) {
        Ok(settings) => settings.to_toml(),
        Err(error) => panic!("{error}\nin\n{text}"),
    }
}

#[test]
fn documents_name_only_what_is_there() {
    let checked =
        Command::new("scripts/check-docs.sh").current_dir(root()).output().expect("bash and git are there");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn the_chapter_on_configuration_has_every_setting_with_its_default() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let samples = samples(&read("docs/configuration.md"));
    let [all, several] = samples.as_slice() else { panic!("two samples, not {}", samples.len()) };

    let url = "[database]\nname = \"app\"\nurl = \"postgresql://tidemill@db.example.org/app\"\n";
    let defaults = settings(url, folder.path());
    assert_eq!(settings(all, folder.path()), defaults);
    for key in defaults.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
        let ways = [format!("\n{key} = "), format!("\n# {key} = "), format!(".{key}]]")];
        assert!(ways.iter().any(|way| all.contains(way)), "{key} is not described");
    }

    // What has no default is commented out; it must be right nevertheless.
    assert!(settings(&uncommented(all), folder.path()).contains("[[mover.routes]]"));
    settings(several, folder.path());
}

/// A sample with the settings in it that are comments: `# key = value` and `# [[section]]`.
fn uncommented(sample: &str) -> String {
    let setting = |line: &str| line.starts_with('[') || line.split(' ').nth(1) == Some("=");
    let lines =
        sample.lines().map(|line| line.strip_prefix("# ").filter(|rest| setting(rest)).unwrap_or(line));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The keys of a section.
fn keys(toml: &str, section: &str) -> BTreeSet<String> {
    let (mut found, mut within) = (BTreeSet::new(), false);
    for line in toml.lines() {
        if let Some(table) = line.strip_prefix(&format!("[[{section}.")) {
            found.insert(table.trim_end_matches(']').to_owned());
            within = false;
        } else if line.starts_with('[') {
            within = line == format!("[{section}]");
        } else if let (true, Some((key, _))) = (within, line.split_once(" = ")) {
            found.insert(key.to_owned());
        }
    }
    found
}

#[test]
fn the_chart_takes_every_setting_of_a_component() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sample = samples(&read("docs/configuration.md")).swap_remove(0);
    let all = settings(&uncommented(&sample), folder.path());
    let schema: serde_json::Value =
        serde_json::from_str(&read("charts/tidemill/values.schema.json")).expect("the schema is JSON");
    for component in ["ticker", "mover", "dispatcher"] {
        let path = format!("/properties/{component}/properties/settings/properties");
        let known =
            schema.pointer(&path).and_then(serde_json::Value::as_object).expect("the chart's settings");
        assert_eq!(known.keys().cloned().collect::<BTreeSet<_>>(), keys(&all, component), "[{component}]");
    }
}

#[test]
fn the_configuration_of_compose_is_good() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    settings(&read("compose.toml"), folder.path());
}
