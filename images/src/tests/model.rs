//! Random trees, cut into layers, are the same trees again.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::layers::{Layer, flatten, write};
use super::survey::{Mounted, fsck};

/// What a path of the model is.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    File(Vec<u8>),
    Link(String),
    Directory(u32),
}

/// What a layer does.
#[derive(Clone, Debug)]
enum Change {
    Put(String, Item),
    Remove(String),
    Clear(String),
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-c]", 1..4).prop_map(|parts| parts.join("/"))
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..50).prop_map(Item::File),
        (0_usize..12_000).prop_map(|size| Item::File(vec![7; size])),
        "[d-f]{1,9}".prop_map(Item::Link),
        (0o100_u32..0o777).prop_map(|mode| Item::Directory(mode | 0o100)),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => (path(), item()).prop_map(|(path, item)| Change::Put(path, item)),
        2 => path().prop_map(Change::Remove),
        1 => path().prop_map(Change::Clear),
    ]
}

type Model = BTreeMap<String, Item>;

fn beneath(model: &Model, path: &str) -> Vec<String> {
    let prefix = format!("{path}/");
    let below = model.keys().filter(|key| key.starts_with(&prefix));
    below.cloned().collect()
}

/// Carries a change out in the model, and in the layer; none where the path leads through no directory.
fn carry_out(model: &mut Model, layer: Layer, touched: &mut Vec<String>, change: &Change) -> Layer {
    let (Change::Put(path, _) | Change::Remove(path) | Change::Clear(path)) = change;
    let mut above: Vec<String> = Vec::new();
    for (at, _) in path.match_indices('/') {
        above.push(path[..at].to_owned());
    }
    let through =
        |model: &Model, path: &String| matches!(model.get(path), None | Some(Item::Directory(_)));
    // A layer says of each path one thing, in an order in which that makes sense.
    let clash = touched
        .iter()
        .any(|t| t == path || t.starts_with(&format!("{path}/")));
    let under = touched.iter().any(|t| path.starts_with(&format!("{t}/")));
    if clash || under || !above.iter().all(|path| through(model, path)) {
        return layer;
    }
    match change {
        Change::Put(_, item) => {
            for path in above {
                model.entry(path).or_insert(Item::Directory(0o755));
            }
            let stays = matches!(
                (model.get(path), item),
                (Some(Item::Directory(_)), Item::Directory(_))
            );
            if !stays {
                for below in beneath(model, path) {
                    model.remove(&below);
                }
            }
            model.insert(path.clone(), item.clone());
            touched.push(path.clone());
            match item {
                Item::File(bytes) => layer.file(path, bytes),
                Item::Link(target) => layer.symlink(path, target),
                Item::Directory(mode) => layer.directory(path, *mode),
            }
        }
        Change::Remove(_) if model.contains_key(path) => {
            for below in beneath(model, path) {
                model.remove(&below);
            }
            model.remove(path);
            touched.push(path.clone());
            let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
            layer.file(&format!("{folder}/.wh.{name}"), b"")
        }
        Change::Clear(_) if matches!(model.get(path), Some(Item::Directory(_))) => {
            for below in beneath(model, path) {
                model.remove(&below);
            }
            touched.push(path.clone());
            layer.file(&format!("{path}/.wh..wh..opq"), b"")
        }
        _ => layer,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn layers_of_a_random_tree_are_that_tree(
        changes in prop::collection::vec(prop::collection::vec(change(), 0..12), 1..4)
    ) {
        let mut model = Model::new();
        let mut layers = Vec::new();
        for changes in &changes {
            let (mut layer, mut touched) = (Layer::new(), Vec::new());
            for change in changes {
                layer = carry_out(&mut model, layer, &mut touched, change);
            }
            layers.push(layer.bytes());
        }
        let image = write(&flatten(&layers).unwrap());
        fsck(image.path());
        let Some(mounted) = Mounted::new(image.path()) else { return Ok(()) };
        let found = super::survey::survey(mounted.path());
        let mut found_paths: Vec<&String> = found.keys().filter(|path| !path.is_empty()).collect();
        found_paths.sort();
        prop_assert_eq!(found_paths, model.keys().collect::<Vec<_>>());
        for (path, item) in &model {
            let start = match item {
                Item::File(bytes) => {
                    format!("file {} {} 644", bytes.len(), crate::Digest::of(bytes).short())
                }
                Item::Link(target) => format!("link {target:?} 644"),
                Item::Directory(mode) => format!("directory {mode:o} "),
            };
            prop_assert!(found[path].starts_with(&start), "{}: {} is not {}", path, found[path], start);
        }
    }
}

#[test]
fn an_empty_root_is_a_root() {
    let image = write(&flatten(&[]).unwrap());
    fsck(image.path());
    if let Some(mounted) = Mounted::new(image.path()) {
        assert_eq!(super::survey::survey(mounted.path()).len(), 1);
    }
}
