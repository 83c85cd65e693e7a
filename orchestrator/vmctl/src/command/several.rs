//! One operation on several VMs: each is tried, and each that fails is told.

use std::future::Future;

use anyhow::Result;
use serde::Serialize;

use crate::context::Context;
use crate::output::one_line;

/// Does `operation` to each of `vms`, all at once, and prints each answer in their order: a line for people (`show`),
/// one list for programs.
pub(crate) async fn each<T, F>(
    context: &Context,
    vms: &[String],
    operation: impl Fn(String) -> F,
    show: impl Fn(&str, &T) -> Option<String>,
) -> Result<u8>
where
    T: Serialize,
    F: Future<Output = Result<T>>,
{
    let all = vms.iter().map(|vm| operation(vm.clone()));
    let answers = futures::future::join_all(all).await;
    let mut failed = 0;
    let mut done = Vec::new();
    let mut text = String::new();
    for (vm, answer) in vms.iter().zip(answers) {
        match answer {
            Ok(answer) => {
                if let Some(line) = show(vm, &answer) {
                    text.push_str(&line);
                    text.push('\n');
                }
                done.push(answer);
            }
            Err(error) => {
                failed = 1;
                eprintln!("vmctl: {}", one_line(&error));
            }
        }
    }
    context.output.result(&done, || text)?;
    Ok(failed)
}
