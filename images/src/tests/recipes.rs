//! Recipes: those that come with Shoal, and what is refused.
//!
//! That all of them build, and that their programs serve, is shown by `cargo ci recipes`.

use std::fs;
use std::path::PathBuf;

use super::survey::{Mounted, fsck, is_there, survey};
use super::*;
use crate::recipe::{BuildError, Recipe, RecipeError, build};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes")
}

fn recipes() -> Vec<Recipe> {
    let names = files(&folder());
    let read = |name: &String| fs::read_to_string(folder().join(name)).unwrap();
    let parse =
        |name: &String| Recipe::parse(&read(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    names.iter().map(parse).collect()
}

#[test]
fn every_recipe_that_comes_with_shoal_is_good() {
    let recipes = recipes();
    let names: Vec<_> = recipes.iter().map(|r| r.name.as_str()).collect();
    let expected = [
        "apache",
        "icecast2",
        "mariadb",
        "memcached",
        "nginx",
        "octave",
        "openjdk",
    ];
    assert_eq!(names, expected);
    for recipe in recipes {
        assert!(folder().join(format!("{}.toml", recipe.name)).exists());
        assert!(recipe.config().unwrap().entrypoint[0].starts_with('/'));
    }
}

#[test]
fn the_recipe_in_the_documentation_is_good() {
    let page = include_str!("../../../docs/images.md");
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let recipe = Recipe::parse(text).unwrap();
    assert_eq!(recipe.name, "web");
    // It shows every word that there is.
    for word in [
        "name",
        "about",
        "packages",
        "command",
        "env",
        "user",
        "workdir",
        "ports",
        "volumes",
        "stop_signal",
        "run",
        "files",
        "path",
        "mode",
        "text",
    ] {
        assert!(
            text.contains(&format!("{word} = ")) || text.contains(&format!("[[{word}]]")),
            "{word}"
        );
    }
    for recipe in recipes() {
        assert!(
            page.contains(&format!("| `{}` |", recipe.name)),
            "{}",
            recipe.name
        );
    }
}

#[test]
#[ignore = "fetches packages; `cargo ci recipes` runs it"]
fn a_recipe_builds_once_into_a_root_that_can_be_mounted() {
    let (dir, store) = store();
    let cancel = Cancel::default();
    let progress = Progress::new(&|_| {}, &cancel);
    let recipe = recipes().remove(3);
    let built = build(&store, &recipe, &name(&recipe.name), progress).unwrap();
    let Detail::Linux(manifest) = &built.detail else {
        panic!()
    };
    let path = dir.path().join("roots").join(manifest.root.to_string());
    fsck(&path);
    if let Some(mounted) = Mounted::new(&path) {
        let found = survey(mounted.path());
        assert!(found.contains_key(&recipe.command[0][1..]));
        assert!(
            found["bin"].starts_with("link \"usr/bin\""),
            "{}",
            found["bin"]
        );
    }
    let again = build(&store, &recipe, &name("again"), progress).unwrap();
    assert_eq!(again.image.digest, built.image.digest);
}

#[test]
fn a_build_that_is_cancelled_leaves_nothing() {
    if !is_there("mmdebstrap", "mmdebstrap") {
        return;
    }
    let (dir, store) = store();
    let before = contents(dir.path());
    let cancel = Cancel::default();
    let tell = |_| cancel.cancel();
    let recipe = recipes().remove(3);
    let result = build(&store, &recipe, &name("a"), Progress::new(&tell, &cancel));
    assert!(matches!(
        result,
        Err(BuildError::Cancelled | BuildError::NoSources)
    ));
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_recipe_that_makes_no_sense_is_refused() {
    let base = "name = 'a'\nabout = 'b'\npackages = ['c1']\ncommand = ['/d']\n";
    Recipe::parse(base).unwrap();
    for (change, said) in [
        (
            "name = '../a'\nabout = ''\npackages = []\ncommand = ['a']",
            "image's name",
        ),
        (
            "name = 'a'\nabout = ''\npackages = []\ncommand = []",
            "a program",
        ),
        (
            "name = 'a'\nabout = ''\npackages = ['-o']\ncommand = ['a']",
            "package",
        ),
        (
            "name = 'a'\nabout = ''\npackages = ['x,y']\ncommand = ['a']",
            "package",
        ),
        (&format!("{base}user = 'a:b:c'"), "a:b:c"),
        (&format!("{base}surprise = 1"), "form"),
        (&format!("{base}stop_signal = 'SIGNOTHING'"), "signal"),
        (
            &format!("{base}[[files]]\npath = 'a'\ntext = ''"),
            "absolute path",
        ),
        (
            &format!("{base}[[files]]\npath = '/a/../b'\ntext = ''"),
            "absolute path",
        ),
        (
            &format!("{base}[[files]]\npath = '/a'\ntext = ''\nmode = 0o10000"),
            "mode",
        ),
        (&"x".repeat(2 << 20), "bytes"),
    ] {
        let error: RecipeError = Recipe::parse(change).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}
