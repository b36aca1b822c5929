//! Lists the files of `rules/` and `schemas/events/` for `rules::shipped`, so that nobody has to.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?;
    let top = Path::new(&manifest).join("../..").canonicalize()?;
    let out = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    let mut code = String::new();
    for (name, folder, extension) in [
        ("RULES", "rules", "toml"),
        ("SCHEMAS", "schemas/events", "json"),
        ("AVRO", "schemas/events", "avsc"),
        ("PROTOBUF", "schemas/events", "proto"),
    ] {
        println!("cargo::rerun-if-changed={}", top.join(folder).display());
        writeln!(code, "const {name}: &[File<'static>] = &[")?;
        for path in files(&top.join(folder), extension)? {
            let shown = path.strip_prefix(&top)?.to_string_lossy().replace('\\', "/");
            writeln!(code, "    File {{ name: {shown:?}, text: include_str!({:?}) }},", path.to_string_lossy())?;
        }
        writeln!(code, "];")?;
    }
    Ok(fs::File::create(PathBuf::from(out).join("shipped.rs"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, code.as_bytes()))?)
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    Ok(paths)
}
