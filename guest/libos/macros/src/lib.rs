//! `#[libos::main]`: marks the async function that a guest runs.

use proc_macro::{Delimiter, Group, Ident, Punct, Spacing, Span, TokenStream, TokenTree};

/// Marks a program's `async fn main()`, which may return `()`, an exit status, or a `Result` of either.
///
/// The function stays as it is. Beside it comes the one symbol that the library OS starts:
/// `#[unsafe(no_mangle)] extern "Rust" fn __libos_main() { libos::run(main()) }`.
#[proc_macro_attribute]
pub fn main(attribute: TokenStream, function: TokenStream) -> TokenStream {
    let mut complaint = None;
    if !attribute.is_empty() {
        complaint = Some("#[libos::main] takes no arguments");
    }
    let name = match name_of_async_fn(&function) {
        Some(name) => name,
        None => {
            complaint = Some("#[libos::main] marks an `async fn`");
            Ident::new("main", Span::call_site())
        }
    };
    if let Some(complaint) = complaint {
        return format!("::core::compile_error!({complaint:?});")
            .parse()
            .expect("a macro call with one string is well formed");
    }
    let mut body: TokenStream = "::libos::run".parse().expect("a path is well formed");
    let call = [
        TokenTree::Ident(name),
        TokenTree::Group(Group::new(Delimiter::Parenthesis, TokenStream::new())),
    ];
    body.extend([TokenTree::Group(Group::new(
        Delimiter::Parenthesis,
        call.into_iter().collect(),
    ))]);
    body.extend([TokenTree::Punct(Punct::new(';', Spacing::Alone))]);
    let mut out = function;
    out.extend(
        "#[unsafe(no_mangle)] extern \"Rust\" fn __libos_main() -> !"
            .parse::<TokenStream>()
            .expect("a signature is well formed"),
    );
    out.extend([TokenTree::Group(Group::new(Delimiter::Brace, body))]);
    out
}

/// The name of an `async fn`, with its own span so that the compiler's messages point at it.
fn name_of_async_fn(function: &TokenStream) -> Option<Ident> {
    let mut tokens = function.clone().into_iter();
    let mut is_async = false;
    while let Some(token) = tokens.next() {
        if let TokenTree::Ident(word) = token {
            match word.to_string().as_str() {
                "async" => is_async = true,
                "fn" => {
                    return match tokens.next()? {
                        TokenTree::Ident(name) if is_async => Some(name),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
    }
    None
}
