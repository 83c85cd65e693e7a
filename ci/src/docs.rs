//! `cargo ci docs`: writes what `docs/` takes from the code, as `vmd` itself gives it.

use std::fs;

use anyhow::{Context, Result};

use crate::check::host;
use crate::tree::Tree;

/// Between these, `docs/vm-life.md` has the daemon's table of states.
const TABLE: (&str, &str) = ("<!-- table -->\n", "<!-- end of table -->");

pub(crate) fn write(tree: &Tree) -> Result<()> {
    place(tree, "docs/openapi.json", &vmd(tree, "--openapi")?)?;
    let life = "docs/vm-life.md";
    let page = fs::read_to_string(tree.root.join(life)).with_context(|| life.to_owned())?;
    let (head, rest) = page.split_once(TABLE.0).context("no table begins")?;
    let (_, tail) = rest.split_once(TABLE.1).context("no table ends")?;
    let table = vmd(tree, "--states")?;
    place(
        tree,
        life,
        &format!("{head}{}\n{table}\n{}{tail}", TABLE.0, TABLE.1),
    )
}

fn vmd(tree: &Tree, flag: &str) -> Result<String> {
    let text = host(tree)
        .args(["run", "-q", "--release", "-p", "daemon", "--bin", "vmd"])
        .args(["--", flag])
        .output()?;
    Ok(String::from_utf8(text)?)
}

fn place(tree: &Tree, name: &str, text: &str) -> Result<()> {
    let path = tree.root.join(name);
    fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    println!("wrote {name}");
    Ok(())
}
